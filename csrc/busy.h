/* SPDX-License-Identifier: Apache-2.0 */
/* busy.h - wait for events awake for a moment, where that has been worth it. */
#ifndef TAPBOND_BUSY_H
#define TAPBOND_BUSY_H

#include <stdint.h>
#include <sys/epoll.h>

struct busy {
	uint64_t longest; /* ns to stay awake at the most; 0: sleep at once, always */
	uint64_t window;  /* ns to stay awake next time */
};

int busy_wait(struct busy *busy, int epoll_fd, struct epoll_event *event, int room, int timeout);

#endif
