// SPDX-License-Identifier: Apache-2.0
/*
 * report.c - a ring with one writer and one reader, and an eventfd to wake the reader.
 */
#include "report.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/**
 * report_init() - an empty ring
 * @report: uninitialised
 * @lent_fd: the eventfd of another report that has the same reader; -1: make one
 *
 * Return: 0 or -errno.
 */
int report_init(struct report *report, int lent_fd)
{
	memset(report, 0, sizeof(*report));
	report->lent = lent_fd >= 0;
	report->fd = report->lent ? lent_fd : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return report->fd < 0 ? -errno : 0;
}

/**
 * report_free() - close the eventfd
 * @report: initialised
 */
void report_free(struct report *report)
{
	if (report->fd >= 0 && !report->lent)
		close(report->fd);
	report->fd = -1;
}

/**
 * report_push() - tell the control plane, never waiting for it
 * @report: the ring
 * @event: whole
 *
 * Return: false when the ring is full; the event is lost then.
 */
bool report_push(struct report *report, struct tb_event event)
{
	uint32_t head = atomic_load_explicit(&report->head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&report->tail, memory_order_acquire);
	uint64_t one = 1;

	if (head - tail == REPORT_EVENTS)
		return false;
	report->event[head % REPORT_EVENTS] = event;
	atomic_store_explicit(&report->head, head + 1, memory_order_release);
	/* Fails only when the counter is full: the reader is awake then. */
	return write(report->fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN;
}

/**
 * report_peek() - look at the oldest event
 * @report: the ring
 *
 * Return: its serial, 0 when nothing waits.
 */
uint64_t report_peek(const struct report *report)
{
	uint32_t tail = atomic_load_explicit(&report->tail, memory_order_relaxed);

	if (tail == atomic_load_explicit(&report->head, memory_order_acquire))
		return 0;
	return report->event[tail % REPORT_EVENTS].serial;
}

/**
 * report_pop() - take the oldest event
 * @report: the ring
 * @event: filled
 *
 * Return: 1, or 0 when nothing waits.
 */
int report_pop(struct report *report, struct tb_event *event)
{
	uint32_t tail = atomic_load_explicit(&report->tail, memory_order_relaxed);

	if (tail == atomic_load_explicit(&report->head, memory_order_acquire))
		return 0;
	*event = report->event[tail % REPORT_EVENTS];
	atomic_store_explicit(&report->tail, tail + 1, memory_order_release);
	return 1;
}
