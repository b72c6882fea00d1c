// SPDX-License-Identifier: Apache-2.0
/*
 * pump.c - the thread between the TAP and the slaves, and how the control plane reaches it.
 *
 * One thread a queue, one epoll, both directions. A round is: adopt a new selection if there is
 * one, then one batch from everything that is readable. Nothing is allocated, locked or printed in
 * it.
 */
#include "pump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "thread.h"

#define EVENTS_MAX (TB_PORTS_MAX + 2)

#define NS_PER_MS 1000000ull

/**
 * pump_clock() - the time that everything is measured in
 *
 * Return: CLOCK_MONOTONIC in ns.
 */
uint64_t pump_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * NS_PER_MS + ts.tv_nsec;
}

/**
 * pump_tell_as() - report to the control plane, with the time of now
 * @pump: the pump
 * @serial: of queues_serial()
 * @kind: TB_ADOPTED and so on
 * @port: whom it is about, or NOBODY
 * @error: errno, or 0
 *
 * Return: false when there was no room for it: the control plane will not hear of it.
 */
bool pump_tell_as(struct tb_pump *pump, uint64_t serial, uint32_t kind, int port, int error)
{
	struct tb_event event = {
		.kind = kind,
		.port = port,
		.error = error,
		.generation = pump->selection->generation,
		.serial = serial,
		.when_ns = pump_clock(),
	};

	if (report_push(&pump->report, event))
		return true;
	stat_add(&pump->tap_stats.events_lost, 1);
	return false;
}

/**
 * pump_tell() - report with the next serial
 * @pump: the pump
 * @kind: as for pump_tell_as(), and so are @port, @error and what is returned
 * @port: whom it is about, or NOBODY
 * @error: errno, or 0
 *
 * Return: false when there was no room for it.
 */
bool pump_tell(struct tb_pump *pump, uint32_t kind, int port, int error)
{
	return pump_tell_as(pump, queues_serial(pump->queues), kind, port, error);
}

/**
 * pump_tolerates() - is this only a link that is down, which is not for us to decide about?
 * @pump: the pump
 * @error: errno of a send or a receive that was the slave's fault
 *
 * With a downdelay the control plane waits whether the link comes back. ENXIO and ENODEV are links
 * that will not.
 *
 * Return: true when the sender stays the sender.
 */
bool pump_tolerates(const struct tb_pump *pump, int error)
{
	return pump->selection->tolerant && (error == ENETDOWN || error == ENOBUFS);
}

/**
 * pump_watch() - epoll_ctl(2) with our tags
 * @pump: the pump
 * @operation: EPOLL_CTL_*
 * @fd: what to watch
 * @events: EPOLL*
 * @tag: comes back with the event
 *
 * Return: 0 or -errno.
 */
int pump_watch(struct tb_pump *pump, int operation, int fd, uint32_t events, uint32_t tag)
{
	struct epoll_event event = {.events = events, .data.u32 = tag};

	return epoll_ctl(pump->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

/**
 * pump_port_event() - something happened on a slave
 * @pump: the pump
 * @index: the port
 * @events: EPOLL*
 */
static void pump_port_event(struct tb_pump *pump, uint32_t index, uint32_t events)
{
	struct port *port = &pump->port[index];
	int error = 0;

	if (port->fd < 0)
		return;
	if (events & EPOLLIN) {
		error = -batch_receive(&pump->rx, port->fd);
		if (error <= 0)
			pump_deliver(pump, index);
	}
	if ((events & EPOLLERR) && error <= 0)
		error = port_error(port);
	error = port_excuse(port, error);
	if (pump_tolerates(pump, error))
		error = 0;
	if (events & EPOLLHUP) {
		/* Only a socketpair does this, and it never ends: stop listening. */
		pump_watch(pump, EPOLL_CTL_DEL, port->fd, 0, index);
		error = EPIPE;
	}
	if (error > 0)
		pump_fault(pump, index, error);
	if ((events & EPOLLOUT) && pump->blocked == (int)index)
		pump_unblock(pump);
}

/**
 * pump_look() - act on what others want of us: the control plane, and the other queues' pumps
 * @pump: the pump
 */
static void pump_look(struct tb_pump *pump)
{
	pump_adopt(pump);
	pump_follow(pump);
}

/**
 * pump_event() - pass an epoll event on
 * @pump: the pump
 * @tag: what it is about
 * @events: EPOLL*
 */
static void pump_event(struct tb_pump *pump, uint32_t tag, uint32_t events)
{
	uint64_t count;

	if (tag == TAG_WAKE) {
		if (read(pump->wake_fd, &count, sizeof(count)) > 0)
			pump_look(pump);
	} else if (tag != TAG_TAP) {
		pump_port_event(pump, tag, events);
	} else if (pump->blocked == NOBODY && pump->tx.first == pump->tx.count) {
		pump_transmit(pump);
	} else if (events & (EPOLLERR | EPOLLHUP)) {
		/*
		 * These come whatever is asked for, and again at once: the frames that are held
		 * must not wait for their slave. tun_chr_poll() says EPOLLERR for a TAP that was
		 * deleted, and reading it would say EBADFD.
		 */
		pump_lose_tap(pump, EBADFD);
	}
}

/**
 * pump_timeout() - how long to sleep
 * @pump: the pump
 *
 * Return: ms for epoll_wait(2): until the drain ends, or for ever.
 */
static int pump_timeout(const struct tb_pump *pump)
{
	if (!pump->draining)
		return -1;
	if (pump->drain_until <= pump->now)
		return 0;
	return (pump->drain_until - pump->now) / NS_PER_MS + 1;
}

/**
 * pump_run() - the thread
 * @argument: the pump
 *
 * Return: NULL.
 */
static void *pump_run(void *argument)
{
	struct tb_pump *pump = argument;
	struct epoll_event event[EVENTS_MAX];

	pump->now = pump_clock();
	while (!atomic_load_explicit(&pump->stopping, memory_order_acquire)) {
		int n = busy_wait(&pump->busy, pump->epoll_fd, event, EVENTS_MAX,
				  pump_timeout(pump));

		pump->now = pump_clock();
		/* Before any frame: what was published while we slept holds for all of them. */
		pump_look(pump);
		for (int i = 0; i < n; i++)
			pump_event(pump, event[i].data.u32, event[i].events);
		if (pump->blocked == NOBODY)
			pump_flush(pump);
		if (pump->draining && pump->now >= pump->drain_until)
			pump_end_drain(pump);
	}
	return NULL;
}

/**
 * pump_init() - everything that can fail
 * @pump: zeroed
 * @report_fd: see report_init()
 *
 * Return: 0 or -errno.
 */
static int pump_init(struct tb_pump *pump, int report_fd)
{
	int err = batch_init(&pump->tx);

	if (!err)
		err = batch_init(&pump->rx);
	if (!err)
		err = report_init(&pump->report, report_fd);
	if (err)
		return err;
	pump->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	pump->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (pump->epoll_fd < 0 || pump->wake_fd < 0)
		return -errno;
	err = pump_watch(pump, EPOLL_CTL_ADD, pump->wake_fd, EPOLLIN, TAG_WAKE);
	return err ? err : pump_watch(pump, EPOLL_CTL_ADD, pump->tap_fd, EPOLLIN, TAG_TAP);
}

/**
 * pump_free() - give everything back but the queues
 * @pump: not running, may be NULL
 */
static void pump_free(struct tb_pump *pump)
{
	if (!pump)
		return;
	if (pump->epoll_fd >= 0)
		close(pump->epoll_fd);
	if (pump->wake_fd >= 0)
		close(pump->wake_fd);
	report_free(&pump->report);
	batch_free(&pump->rx);
	batch_free(&pump->tx);
	free(pump);
}

/**
 * pump_new() - a pump for one queue
 * @queues: what it shares with others
 * @tap_fd: see tb_pump_new()
 *
 * Return: the pump, or NULL with errno set.
 */
static struct tb_pump *pump_new(struct queues *queues, int tap_fd)
{
	struct tb_pump *pump = calloc(1, sizeof(*pump));
	int err;

	if (!pump)
		return NULL;
	pump->queues = queues;
	pump->tap_fd = tap_fd;
	pump->epoll_fd = -1;
	pump->wake_fd = -1;
	pump->report.fd = -1;
	pump->sender = NOBODY;
	pump->blocked = NOBODY;
	pump->resend = NOBODY;
	atomic_init(&pump->sender_seen, NOBODY);
	for (int i = 0; i < TB_PORTS_MAX; i++)
		pump->port[i].fd = -1;
	mailbox_init(&pump->mailbox);
	sources_init(&pump->sources);
	pump->selection = &pump->mailbox.letter[0];
	err = pump_init(pump, queues->count ? queues->member[0]->report.fd : -1);
	if (!err) {
		queues->member[queues->count++] = pump;
		return pump;
	}
	pump_free(pump);
	errno = -err;
	return NULL;
}

/**
 * tb_pump_new() - a pump without slaves, not running
 * @tap_fd: non-blocking, stays the caller's and open until tb_pump_free()
 *
 * Return: the pump, or NULL with errno set.
 */
struct tb_pump *tb_pump_new(int tap_fd)
{
	struct queues *queues = queues_new();
	struct tb_pump *pump = queues ? pump_new(queues, tap_fd) : NULL;

	if (!pump)
		free(queues);
	return pump;
}

/**
 * tb_pump_add_queue() - a further queue of the same TAP, with a thread of its own
 * @pump: the first, not running
 * @tap_fd: see tb_pump_new()
 *
 * Return: the queue's number, or -errno.
 */
int tb_pump_add_queue(struct tb_pump *pump, int tap_fd)
{
	if (pump->queues->count == TB_QUEUES_MAX)
		return -ENOSPC;
	return pump_new(pump->queues, tap_fd) ? (int)pump->queues->count - 1 : -errno;
}

/**
 * tb_pump_busy_poll() - stay awake for a moment after the last frame
 * @pump: not running
 * @longest_ns: how long at the most; 0 (as it is at first): sleep at once
 */
void tb_pump_busy_poll(struct tb_pump *pump, uint64_t longest_ns)
{
	for (uint32_t i = 0; i < pump->queues->count; i++)
		pump->queues->member[i]->busy.longest = longest_ns;
}

/**
 * tb_pump_start() - start the threads, one a queue
 * @pump: not running
 *
 * Return: 0 or -errno: none runs then.
 */
int tb_pump_start(struct tb_pump *pump)
{
	char name[20] = "tapbond-pump"; /* of which 15 are used */

	for (uint32_t i = 0; i < pump->queues->count; i++) {
		struct tb_pump *member = pump->queues->member[i];
		int err;

		if (i)
			snprintf(name, sizeof(name), "tapbond-pump/%u", (uint8_t)i);
		atomic_store(&member->stopping, false);
		err = thread_start(&member->thread, name, pump_run, member);
		member->running = !err;
		if (err) {
			tb_pump_stop(pump);
			return err;
		}
	}
	return 0;
}

/**
 * pump_wake() - make the thread look at what changed
 * @pump: the pump
 */
void pump_wake(struct tb_pump *pump)
{
	uint64_t one = 1;

	/* Fails only when the counter is full: it is awake then. */
	while (write(pump->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/**
 * tb_pump_stop() - end the threads after the batch at hand; again is harmless
 * @pump: the first
 */
void tb_pump_stop(struct tb_pump *pump)
{
	for (uint32_t i = 0; i < pump->queues->count; i++) {
		struct tb_pump *member = pump->queues->member[i];

		if (!member->running)
			continue;
		atomic_store_explicit(&member->stopping, true, memory_order_release);
		pump_wake(member);
		pthread_join(member->thread, NULL);
		member->running = false;
	}
}

/**
 * tb_pump_free() - stop and give everything back; the TAP and the slaves stay open
 * @pump: the first, may be NULL
 */
void tb_pump_free(struct tb_pump *pump)
{
	struct queues *queues;

	if (!pump)
		return;
	tb_pump_stop(pump);
	queues = pump->queues;
	while (queues->count)
		pump_free(queues->member[--queues->count]);
	free(queues);
}

/**
 * tb_pump_event_fd() - readable when tb_pump_next_event() has something
 * @pump: the pump
 *
 * Return: an eventfd(2) of the pump's.
 */
int tb_pump_event_fd(const struct tb_pump *pump)
{
	return pump->report.fd;
}

/**
 * tb_pump_sender() - who sends now
 * @pump: the pump
 *
 * Return: the port, or -1.
 */
int tb_pump_sender(const struct tb_pump *pump)
{
	return atomic_load_explicit(&pump->sender_seen, memory_order_relaxed);
}
