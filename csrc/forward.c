// SPDX-License-Identifier: Apache-2.0
/*
 * forward.c - the hot copy: TAP to the sender, receivers to the TAP.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "pump.h"

/**
 * pump_block() - the sender's socket is full: leave the rest in the TAP's queue until it is not
 * @pump: the pump; its tx holds frames
 */
static void pump_block(struct tb_pump *pump)
{
	if (pump->blocked != NOBODY)
		return;
	pump->blocked = pump->sender;
	pump_watch(pump, EPOLL_CTL_MOD, pump->port[pump->blocked].fd, EPOLLIN | EPOLLOUT,
		   pump->blocked);
	pump_watch(pump, EPOLL_CTL_MOD, pump->tap_fd, 0, TAG_TAP);
}

/**
 * pump_unblock() - the frames that are held may be tried again
 * @pump: the pump
 */
void pump_unblock(struct tb_pump *pump)
{
	if (pump->blocked == NOBODY)
		return;
	pump_watch(pump, EPOLL_CTL_MOD, pump->port[pump->blocked].fd, EPOLLIN, pump->blocked);
	pump_watch(pump, EPOLL_CTL_MOD, pump->tap_fd, EPOLLIN, TAG_TAP);
	pump->blocked = NOBODY;
}

/**
 * pump_count_sent() - account for frames that the sender took
 * @pump: the pump
 * @n: how many, from tx.first on
 */
static void pump_count_sent(struct tb_pump *pump, unsigned int n)
{
	struct port_stats *stats = &pump->port[pump->sender].stats;
	uint64_t bytes = 0;

	for (unsigned int i = pump->tx.first; i < pump->tx.first + n; i++)
		bytes += frame_size(&pump->tx.frame[i]);
	stat_add(&stats->tx_frames, n);
	stat_add(&stats->tx_bytes, bytes);
	pump->tx.first += n;
	if (pump->resend != NOBODY) {
		stat_add(&pump->port[pump->resend].stats.tx_resent, 1);
		pump->resend = NOBODY;
	}
	if (queues_first(&pump->queues->await_tx, pump->port[pump->sender].id))
		pump_tell(pump, TB_FIRST_TX, pump->sender, 0);
}

/**
 * pump_count_lost() - nobody is ready: what is held is lost
 * @pump: the pump
 */
static void pump_count_lost(struct tb_pump *pump)
{
	stat_add(&pump->tap_stats.tx_dropped, pump->tx.count - pump->tx.first);
	pump->tx.first = pump->tx.count;
	pump->resend = NOBODY;
}

/**
 * pump_send_failed() - the sender did not take the frame at tx.first
 * @pump: the pump
 * @error: errno
 *
 * Return: whether to go on with what is in tx.
 */
static bool pump_send_failed(struct tb_pump *pump, int error)
{
	struct port *port = &pump->port[pump->sender];
	enum port_verdict verdict =
		port_judge(port, error, &pump->tx.frame[pump->tx.first], pump->now);

	if (verdict == PORT_BUSY) {
		pump_block(pump);
		return false;
	}
	if (verdict == PORT_AGAIN)
		return true;
	stat_add(&port->stats.tx_errors, 1);
	if (verdict == PORT_FAULT && pump_tolerates(pump, error))
		verdict = PORT_FRAME;
	if (verdict == PORT_FRAME) {
		stat_add(&port->stats.tx_dropped, 1);
		pump->tx.first++;
		pump->resend = NOBODY;
		return true;
	}
	pump->resend = pump->sender;
	pump_fault(pump, pump->sender, error);
	return true;
}

/**
 * pump_flush() - send what is in tx, over whoever can
 * @pump: the pump
 */
void pump_flush(struct tb_pump *pump)
{
	bool more = true;

	while (more && pump->tx.first < pump->tx.count) {
		int n;

		if (pump->sender == NOBODY) {
			pump_count_lost(pump);
			return;
		}
		n = port_send(&pump->port[pump->sender], &pump->tx);
		if (n > 0)
			pump_count_sent(pump, n);
		else
			more = pump_send_failed(pump, -n);
	}
}

/**
 * pump_lose_tap() - the TAP failed for good: tell, and stop listening to it
 * @pump: the pump
 * @error: errno
 */
void pump_lose_tap(struct tb_pump *pump, int error)
{
	pump_watch(pump, EPOLL_CTL_DEL, pump->tap_fd, 0, TAG_TAP);
	if (!atomic_exchange(&pump->queues->tap_lost, true))
		pump_tell(pump, TB_TAP_FAULT, NOBODY, error);
}

/**
 * pump_transmit() - one batch from the TAP to the sender
 * @pump: the pump
 */
void pump_transmit(struct tb_pump *pump)
{
	int n = batch_read_tap(&pump->tx, pump->tap_fd);

	if (n < 0) {
		pump_lose_tap(pump, -n);
		return;
	}
	/* First: a send that fails announces them, and these are among them. */
	sources_learn(&pump->sources, &pump->tx, pump->now);
	pump_flush(pump);
}

/**
 * pump_is_echo() - is this what we sent on one slave and the switch flooded to another?
 * @pump: the pump
 * @index: the port that it came from
 * @frame: the frame, no runt
 *
 * A bridge that has the TAP as a port would believe that its own guests live behind it now. While a
 * drain lasts, the sender hears echoes too: of what left by the one before it.
 *
 * Return: true when it is no news.
 */
static bool pump_is_echo(struct tb_pump *pump, uint32_t index, const struct frame *frame)
{
	if ((int)index != pump->sender || pump->draining)
		return frame_is_from(frame, pump->selection->mac) ||
		       queues_know(pump->queues, frame, pump->now);
	/* A guest that has moved to another machine says so to everybody. */
	if (frame_is_multicast(frame))
		queues_forget(pump->queues, frame);
	return false;
}

/**
 * pump_may_deliver() - does this frame go to the host?
 * @pump: the pump
 * @index: the port that it came from
 * @frame: the frame, no runt
 *
 * Return: true when it does; else it has been counted.
 */
static bool pump_may_deliver(struct tb_pump *pump, uint32_t index, const struct frame *frame)
{
	struct port_stats *stats = &pump->port[index].stats;
	uint32_t bit = 1u << index;
	bool allowed =
		(pump->receive & bit) || ((pump->draining & bit) && !frame_is_multicast(frame));

	if (!allowed || pump_is_echo(pump, index, frame)) {
		stat_add(&stats->rx_dropped, 1);
		return false;
	}
	if (pump->draining && recent_is_copy(&pump->recent, frame, index)) {
		stat_add(&stats->rx_duplicate, 1);
		return false;
	}
	return true;
}

/**
 * pump_write_tap() - hand one frame to the host
 * @pump: the pump
 * @stats: of the port that it came from
 * @frame: the frame
 */
static void pump_write_tap(struct tb_pump *pump, struct port_stats *stats,
			   const struct frame *frame)
{
	ssize_t n;

	do
		n = write(pump->tap_fd, frame->data, frame->len);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		/* EINVAL is the frame's fault; EIO is a TAP that is administratively down. */
		stat_add(errno == EINVAL ? &stats->rx_errors : &pump->tap_stats.rx_dropped, 1);
		return;
	}
	stat_add(&stats->rx_frames, 1);
	stat_add(&stats->rx_bytes, frame_size(frame));
}

/**
 * pump_deliver() - hand the batch in rx to the host
 * @pump: the pump
 * @index: the port that it came from
 */
void pump_deliver(struct tb_pump *pump, uint32_t index)
{
	struct port_stats *stats = &pump->port[index].stats;

	for (unsigned int i = 0; i < pump->rx.count; i++) {
		const struct frame *frame = &pump->rx.frame[i];

		if (frame_is_runt(frame)) {
			stat_add(&stats->rx_errors, 1);
			continue;
		}
		if (!pump_may_deliver(pump, index, frame))
			continue;
		pump_write_tap(pump, stats, frame);
		if ((int)index == pump->sender &&
		    queues_first(&pump->queues->await_rx, pump->port[index].id))
			pump_tell(pump, TB_FIRST_RX, index, 0);
	}
}
