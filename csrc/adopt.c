// SPDX-License-Identifier: Apache-2.0
/*
 * adopt.c - change who sends and who receives, between two batches.
 *
 * Two ways lead here: the control plane published a selection, or a slave failed and the next one
 * takes over before the control plane has even heard of it. Both go through pump_switch(): receive
 * on the new slave, announce on it, finish what had arrived on the old one, send on the new one.
 */
#include <errno.h>
#include <sys/epoll.h>

#include "pump.h"

/* How many batches are read off a slave that stops receiving, at the most. */
#define FINISH_BATCHES 16

/* Rounds of announcements that one selection can ask for; bonding's num_grat_arp ends there too. */
#define ROUNDS_MAX 255

#define PORT_BIT(i) (1u << (i))

/**
 * pump_set_gates() - open and close the socket filters so that only @want gets frames
 * @pump: the pump
 * @want: bit mask of ports
 */
static void pump_set_gates(struct tb_pump *pump, uint32_t want)
{
	for (uint32_t i = 0; i < TB_PORTS_MAX; i++) {
		uint32_t bit = PORT_BIT(i);

		if (pump->port[i].fd < 0 || !((want ^ pump->gate_open) & bit))
			continue;
		/* A gate that does not move costs time, not correctness: pump_may_deliver(). */
		tb_port_gate(pump->port[i].fd, !!(want & bit));
		pump->gate_open ^= bit;
	}
}

/**
 * pump_announce_one() - send one announcement
 * @port: the slave
 * @frame: whole, with its virtio_net_hdr
 * @len: its length
 *
 * As in port_send(), the first error may be an old one. It would cost the RARP, and that is all
 * that a failover without addresses has to say.
 *
 * Return: whether it was taken.
 */
static bool pump_announce_one(const struct port *port, const uint8_t *frame, size_t len)
{
	ssize_t n = send(port->fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENETDOWN)
		n = send(port->fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n > 0;
}

/**
 * pump_source() - who else speaks through the TAP?
 * @pump: the pump
 * @queue: by which of its queues
 * @place: in that queue's table
 *
 * Return: his key, 0 for nobody, or for somebody who is in the table of an earlier queue.
 */
static uint64_t pump_source(const struct tb_pump *pump, uint32_t queue, uint32_t place)
{
	struct tb_pump *const *member = pump->queues->member;
	uint64_t key = sources_at(&member[queue]->sources, place, pump->now);

	for (uint32_t i = 0; key && i < queue; i++)
		if (sources_have(&member[i]->sources, key, pump->now))
			return 0;
	return key;
}

/**
 * pump_announce_sources() - tell the switch where those live now who speak through the TAP
 * @pump: the pump
 */
static void pump_announce_sources(struct tb_pump *pump)
{
	struct port *port = &pump->port[pump->sender];
	uint8_t frame[TB_VNET_LEN + TB_RARP_LEN] = {0};

	for (uint32_t i = 0; i < pump->queues->count * TB_SOURCES_MAX; i++) {
		uint64_t key = pump_source(pump, i / TB_SOURCES_MAX, i % TB_SOURCES_MAX);
		uint32_t len;

		if (!key)
			continue;
		len = sources_announce(key, frame + TB_VNET_LEN);
		if (pump_announce_one(port, frame, TB_VNET_LEN + len))
			stat_add(&port->stats.announced, 1);
	}
}

/**
 * pump_announce() - tell the switch where the MAC lives now
 * @pump: the pump; the announcements are those of its selection
 */
static void pump_announce(struct tb_pump *pump)
{
	struct port *port = &pump->port[pump->sender];
	uint8_t frame[TB_VNET_LEN + TB_ANNOUNCE_LEN] = {0};

	for (uint32_t i = 0; i < pump->selection->announce_count && i < TB_ANNOUNCE_MAX; i++) {
		const struct tb_announcement *announce = &pump->selection->announce[i];

		if (announce->len > TB_ANNOUNCE_LEN)
			continue;
		memcpy(frame + TB_VNET_LEN, announce->data, announce->len);
		if (pump_announce_one(port, frame, TB_VNET_LEN + announce->len))
			stat_add(&port->stats.announced, 1);
	}
	pump_announce_sources(pump);
}

/**
 * pump_announce_again() - announce once more for each round that was asked for
 * @pump: the pump
 *
 * The rounds are counted, because a selection may replace one that was never adopted. Of several
 * queues only the first does it.
 */
static void pump_announce_again(struct tb_pump *pump)
{
	uint32_t rounds = pump->selection->announce_round - pump->announced_round;

	pump->announced_round = pump->selection->announce_round;
	if (pump != pump->queues->member[0])
		return;
	if (rounds > ROUNDS_MAX)
		rounds = ROUNDS_MAX;
	while (rounds-- && pump->sender != NOBODY)
		pump_announce(pump);
}

/**
 * pump_finish() - deliver by the old rules what had arrived before the switch
 * @pump: the pump; @receive is still the old mask
 * @leaving: bit mask of the ports that stop receiving
 */
static void pump_finish(struct tb_pump *pump, uint32_t leaving)
{
	for (uint32_t i = 0; i < TB_PORTS_MAX; i++) {
		if (!(leaving & PORT_BIT(i)))
			continue;
		for (int n = 0; n < FINISH_BATCHES; n++) {
			int frames = batch_receive(&pump->rx, pump->port[i].fd);

			if (frames <= 0) {
				port_excuse(&pump->port[i], -frames);
				break;
			}
			pump_deliver(pump, i);
		}
	}
}

/**
 * pump_set_receivers() - make @receive the ports that deliver, draining those that did
 * @pump: the pump
 * @receive: bit mask of ports
 * @lead: whether the sender is new, and this pump is the first that switches to it
 * @announce: whether this pump is the one to say so
 */
static void pump_set_receivers(struct tb_pump *pump, uint32_t receive, bool lead, bool announce)
{
	uint32_t leaving = pump->receive & ~receive;

	if (leaving && pump->selection->drain_ns) {
		if (!pump->draining)
			recent_begin(&pump->recent);
		pump->draining |= leaving;
		pump->drain_until = pump->now + pump->selection->drain_ns;
	}
	pump->draining &= ~receive;
	pump_set_gates(pump, receive | pump->draining);
	if (lead && pump->queues->count > 1)
		queues_open_gates(pump, receive);
	if (announce && pump->sender != NOBODY && !pump->selection->announce_silent)
		pump_announce(pump);
	if (pump->draining)
		pump_finish(pump, leaving);
	pump->receive = receive;
}

/**
 * pump_switch() - let another slave send
 * @pump: the pump
 * @to: the port, or NOBODY
 * @error: errno that made it necessary, 0 when it was asked for
 */
void pump_switch(struct tb_pump *pump, int to, int error)
{
	uint32_t id = to == NOBODY ? 0 : pump->port[to].id;
	bool lead = queues_lead(pump->queues, id);
	bool announce;

	pump->sender = to;
	atomic_store_explicit(&pump->sender_seen, to, memory_order_relaxed);
	if (lead) {
		pump_tell(pump, TB_SWITCHED, to, error);
		atomic_store(&pump->queues->await_tx, id);
		atomic_store(&pump->queues->await_rx, id);
	}
	announce = queues_announce(pump, id, lead, error);
	if (error)
		queues_call(pump);
	pump_set_receivers(pump, tb_select_receivers(pump->selection, to), lead, announce);
	pump_unblock(pump);
}

/**
 * pump_share_faults() - do not use what another pump saw fail
 * @pump: the pump
 */
static void pump_share_faults(struct tb_pump *pump)
{
	for (uint32_t i = 0; i < TB_PORTS_MAX; i++) {
		struct port *port = &pump->port[i];
		uint64_t serial = queues_fault(pump->queues, i, port->id);

		if (serial <= pump->selection->seen_serial || (pump->suspended & PORT_BIT(i)))
			continue;
		pump->suspended |= PORT_BIT(i);
		port->fault_serial = serial;
	}
}

/**
 * pump_fault() - a slave failed: tell, and go on with the next one if it was the sender
 * @pump: the pump
 * @index: the port
 * @error: errno
 */
void pump_fault(struct tb_pump *pump, uint32_t index, int error)
{
	struct port *port = &pump->port[index];
	uint64_t seen = pump->selection->seen_serial;

	if (pump->suspended & PORT_BIT(index))
		return;
	pump->suspended |= PORT_BIT(index);
	if (queues_claim(pump->queues, index, port->id, seen, &port->fault_serial) &&
	    !pump_tell_as(pump, port->fault_serial, TB_PORT_FAULT, index, error)) {
		/* What could not be told cannot be settled either: any next selection does it. */
		queues_unclaim(pump->queues, index);
		port->fault_serial = 0;
	}
	pump_share_faults(pump);
	if (pump->sender == (int)index)
		pump_switch(pump, tb_select_sender(pump->selection, pump->suspended), error);
}

/**
 * pump_follow() - switch if another pump saw the sender fail
 * @pump: the pump
 */
void pump_follow(struct tb_pump *pump)
{
	uint32_t calls = atomic_load_explicit(&pump->queues->calls, memory_order_acquire);

	if (calls == pump->calls)
		return;
	pump->calls = calls;
	pump_share_faults(pump);
	if (pump->sender != NOBODY && (pump->suspended & PORT_BIT(pump->sender)))
		pump_switch(pump, tb_select_sender(pump->selection, pump->suspended), 0);
}

/**
 * pump_tell_drained() - the drain is over; the first queue speaks for all, which drain together
 * @pump: the pump
 */
static void pump_tell_drained(struct tb_pump *pump)
{
	if (pump == pump->queues->member[0])
		pump_tell(pump, TB_DRAINED, NOBODY, 0);
}

/**
 * pump_end_drain() - the former receivers fall silent
 * @pump: the pump
 */
void pump_end_drain(struct tb_pump *pump)
{
	pump->draining = 0;
	pump_set_gates(pump, pump->receive);
	pump_tell_drained(pump);
}

/**
 * pump_replace_port() - another slave, or none, in one place
 * @pump: the pump
 * @index: the place
 * @next: what the selection says of it
 */
static void pump_replace_port(struct tb_pump *pump, uint32_t index, struct tb_port next)
{
	struct port *port = &pump->port[index];
	uint32_t bit = PORT_BIT(index);

	if (pump->blocked == (int)index)
		pump_unblock(pump);
	if (port->fd >= 0)
		pump_watch(pump, EPOLL_CTL_DEL, port->fd, 0, index);
	if (pump->sender == (int)index)
		pump->sender = NOBODY;
	pump->suspended &= ~bit;
	pump->receive &= ~bit;
	pump->draining &= ~bit;
	pump->gate_open &= ~bit; /* the control plane hands sockets over with the gate closed */
	port->fd = next.fd;
	port->id = next.id;
	port->fault_serial = 0;
	port->checked_ns = 0;
	if (port->fd >= 0)
		pump_watch(pump, EPOLL_CTL_ADD, port->fd, EPOLLIN, index);
}

/**
 * pump_forget_errors() - do not find again what is settled
 * @pump: the pump
 * @seen: what was settled before
 *
 * A link that goes down leaves an error on every queue's socket. One pump has told of it; another
 * one that only now comes to look would tell of a link that may be fine again.
 */
static void pump_forget_errors(struct tb_pump *pump, uint64_t seen)
{
	for (uint32_t i = 0; i < TB_PORTS_MAX; i++) {
		const struct port *port = &pump->port[i];
		uint64_t serial = queues_fault(pump->queues, i, port->id);

		if (port->fd >= 0 && serial > seen && serial <= pump->selection->seen_serial)
			port_error(port);
	}
}

/**
 * pump_settle_faults() - believe the control plane about the faults it has heard of
 * @pump: the pump
 * @seen: what was settled before
 */
static void pump_settle_faults(struct tb_pump *pump, uint64_t seen)
{
	for (uint32_t i = 0; i < TB_PORTS_MAX; i++) {
		if (pump->port[i].fault_serial <= pump->selection->seen_serial)
			pump->suspended &= ~PORT_BIT(i);
	}
	if (pump->queues->count == 1)
		return;
	pump_forget_errors(pump, seen);
	pump_share_faults(pump);
}

/**
 * pump_adopt() - put the newest selection in force, if there is one
 * @pump: the pump
 */
void pump_adopt(struct tb_pump *pump)
{
	const struct tb_selection *next = NULL;
	uint64_t seen = pump->selection->seen_serial;
	bool draining = pump->draining;
	int former = pump->sender;
	int sender;

	if (atomic_load_explicit(&pump->queues->published, memory_order_acquire) !=
	    pump->selection->generation)
		next = mailbox_take(&pump->mailbox);
	if (!next)
		return;
	pump->selection = next;
	sources_set_own(&pump->sources, next->mac);
	for (uint32_t i = 0; i < TB_PORTS_MAX; i++)
		if (pump->port[i].id != next->port[i].id || pump->port[i].fd != next->port[i].fd)
			pump_replace_port(pump, i, next->port[i]);
	pump_settle_faults(pump, seen);

	sender = tb_select_sender(next, pump->suspended);
	/* A sender that was replaced is NOBODY by now, though another may be in its place. */
	if (sender != pump->sender || sender != former)
		pump_switch(pump, sender, 0);
	else
		pump_set_receivers(pump, tb_select_receivers(next, sender), false, false);
	pump_announce_again(pump);
	if (draining && !pump->draining)
		pump_tell_drained(pump);
	/* In one order for all pumps: then at least the last of them sees that it is the last. */
	atomic_store(&pump->adopted, next->generation);
	if (queues_adopted(pump->queues) == next->generation)
		pump_tell(pump, TB_ADOPTED, NOBODY, 0);
}
