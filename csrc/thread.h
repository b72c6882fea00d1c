/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h - a thread that takes no signals. */
#ifndef TAPBOND_THREAD_H
#define TAPBOND_THREAD_H

#include <pthread.h>

int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument);

#endif
