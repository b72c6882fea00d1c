// SPDX-License-Identifier: Apache-2.0
/*
 * busy.c - wait for events awake for a moment, where that has been worth it.
 *
 * To wake a thread that sleeps takes longer than to copy the frame that it is woken for: an
 * interrupt to an idle processor, which costs a virtual machine an exit. So the pump looks again
 * for a while before it sleeps. It yields the processor each time, so that whoever has work to do
 * on it goes first, and it stays awake only while that pays: the window is that of
 * grow_halt_poll_ns() and shrink_halt_poll_ns() in virt/kvm/kvm_main.c.
 */
#include "busy.h"

#include <sched.h>

#include "pump.h"

#define WINDOW_FIRST 10000

/**
 * tb_busy_window() - how long to stay awake next time
 * @window: how long it was this time, in ns
 * @longest: it never is longer
 * @waited: how long nothing happened, awake and asleep
 *
 * Return: ns. What came while we were awake leaves the window as it is; what came soon after makes
 * it larger; after a longer pause we sleep at once.
 */
uint64_t tb_busy_window(uint64_t window, uint64_t longest, uint64_t waited)
{
	if (waited > longest)
		return 0;
	if (waited <= window)
		return window;
	window = window ? window * 2 : WINDOW_FIRST;
	return window < longest ? window : longest;
}

/**
 * busy_look() - look for events until the window is over
 * @busy: the state
 * @epoll_fd: what to look at
 * @event: filled
 * @room: how many there is room for
 * @began: when the wait began
 *
 * Return: as epoll_wait(2); 0: nothing happened.
 */
static int busy_look(const struct busy *busy, int epoll_fd, struct epoll_event *event, int room,
		     uint64_t began)
{
	int n;

	do {
		n = epoll_wait(epoll_fd, event, room, 0);
		if (n)
			return n;
		sched_yield();
	} while (pump_clock() - began < busy->window);
	return 0;
}

/**
 * busy_wait() - epoll_wait(2), awake at first
 * @busy: the state
 * @epoll_fd: what to wait for
 * @event: filled
 * @room: how many there is room for
 * @timeout: in ms, from when we sleep; -1: for ever
 *
 * Return: as epoll_wait(2).
 */
int busy_wait(struct busy *busy, int epoll_fd, struct epoll_event *event, int room, int timeout)
{
	uint64_t began;
	int n = 0;

	if (!busy->longest || !timeout)
		return epoll_wait(epoll_fd, event, room, timeout);
	began = pump_clock();
	if (busy->window)
		n = busy_look(busy, epoll_fd, event, room, began);
	if (!n)
		n = epoll_wait(epoll_fd, event, room, timeout);
	busy->window = tb_busy_window(busy->window, busy->longest, pump_clock() - began);
	return n;
}
