// SPDX-License-Identifier: Apache-2.0
/*
 * thread.c - start a thread that leaves every signal to the others.
 */
#include "thread.h"

#include <signal.h>

/**
 * thread_start() - start a thread with all signals blocked: they are for Python's main thread
 * @thread: set
 * @name: at most 15 bytes, as ps(1) and top(1) show it
 * @run: what it does
 * @argument: given to @run
 *
 * Return: 0 or -errno.
 */
int thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(thread, NULL, run, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!err)
		pthread_setname_np(*thread, name);
	return -err;
}
