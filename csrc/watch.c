// SPDX-License-Identifier: Apache-2.0
/*
 * watch.c - poll the carrier of a few links in a thread that costs next to nothing.
 *
 * Not in the pump, because asking takes the kernel's RTNL lock, which somebody else may hold for
 * long; not in Python, because a hundred wake-ups a second there are two per cent of a core.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tapbond.h"
#include "thread.h"

/* No answer of tb_link_ready(). */
#define UNKNOWN 2

struct tb_watch {
	int asking_fd; /* any socket in the links' namespace */
	int event_fd;  /* readable when an answer has changed */
	int stop_fd;
	int interval_ms;
	pthread_t thread;
	_Atomic uint32_t ifindex[TB_PORTS_MAX]; /* 0: empty */
};

/**
 * watch_round() - ask for every link once
 * @watch: the watch
 * @known: what was asked and answered the last time
 *
 * Return: whether an answer has changed.
 */
static int watch_round(struct tb_watch *watch, int64_t known[TB_PORTS_MAX])
{
	int changed = 0;

	for (int i = 0; i < TB_PORTS_MAX; i++) {
		uint32_t ifindex = atomic_load_explicit(&watch->ifindex[i], memory_order_relaxed);
		int answer = ifindex ? tb_link_ready(watch->asking_fd, ifindex) : UNKNOWN;
		/* The link belongs to the answer: another link in the same place is news. */
		int64_t told = (int64_t)ifindex << 8 | (uint8_t)answer;

		changed |= ifindex && told != known[i];
		known[i] = told;
	}
	return changed;
}

/**
 * watch_run() - the thread
 * @argument: the watch
 *
 * Return: NULL.
 */
static void *watch_run(void *argument)
{
	struct tb_watch *watch = argument;
	struct pollfd stop = {.fd = watch->stop_fd, .events = POLLIN};
	int64_t known[TB_PORTS_MAX] = {0};

	while (poll(&stop, 1, watch->interval_ms) <= 0) {
		/* Full: the reader has not come round yet, and will see this too. */
		if (watch_round(watch, known))
			eventfd_write(watch->event_fd, 1);
	}
	return NULL;
}

/**
 * watch_free() - give back what was opened
 * @watch: its thread is not running
 */
static void watch_free(struct tb_watch *watch)
{
	if (watch->asking_fd >= 0)
		close(watch->asking_fd);
	if (watch->event_fd >= 0)
		close(watch->event_fd);
	if (watch->stop_fd >= 0)
		close(watch->stop_fd);
	free(watch);
}

/**
 * watch_start() - open what it needs and start the thread
 * @watch: descriptors are -1
 *
 * Return: 0 or -errno.
 */
static int watch_start(struct tb_watch *watch)
{
	watch->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	watch->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (watch->asking_fd < 0 || watch->event_fd < 0 || watch->stop_fd < 0)
		return -errno;
	return thread_start(&watch->thread, "tapbond-watch", watch_run, watch);
}

/**
 * tb_watch_new() - watch the links of one network namespace, none at first
 * @interval_ms: between two rounds
 * @asking_fd: any socket in the links' network namespace; stays the caller's
 *
 * Return: the watch, or NULL with errno set.
 */
struct tb_watch *tb_watch_new(int interval_ms, int asking_fd)
{
	struct tb_watch *watch = calloc(1, sizeof(*watch));
	int err;

	if (!watch)
		return NULL;
	watch->event_fd = watch->stop_fd = -1;
	/* Of its own: the caller may close the other one first. */
	watch->asking_fd = fcntl(asking_fd, F_DUPFD_CLOEXEC, 0);
	watch->interval_ms = interval_ms;
	err = watch_start(watch);
	if (!err)
		return watch;
	watch_free(watch);
	errno = -err;
	return NULL;
}

/**
 * tb_watch_follow() - put a link in one place
 * @watch: the watch
 * @place: below TB_PORTS_MAX
 * @ifindex: the link, or 0
 */
void tb_watch_follow(struct tb_watch *watch, uint32_t place, uint32_t ifindex)
{
	atomic_store_explicit(&watch->ifindex[place], ifindex, memory_order_relaxed);
}

/**
 * tb_watch_event_fd() - readable when a link's answer has changed
 * @watch: the watch
 *
 * Return: an eventfd(2) of the watch's.
 */
int tb_watch_event_fd(const struct tb_watch *watch)
{
	return watch->event_fd;
}

/**
 * tb_watch_free() - end the thread and give everything back
 * @watch: may be NULL
 */
void tb_watch_free(struct tb_watch *watch)
{
	if (!watch)
		return;
	eventfd_write(watch->stop_fd, 1);
	pthread_join(watch->thread, NULL);
	watch_free(watch);
}
