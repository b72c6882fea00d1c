// SPDX-License-Identifier: Apache-2.0
/*
 * queues.c - several pumps that act as one.
 *
 * Each queue of the TAP has a pump of its own, with a socket of its own on every slave, so that no
 * frame crosses from one to another and a flow, which stays in its queue, keeps its order. What
 * they have to agree on is here: a fault that one of them saw is a fault for all; whoever switches
 * first opens the others' gates and tells; the last announces.
 */
#include "queues.h"

#include <stdlib.h>

#include "pump.h"

/* A fault is its serial above the lower bits of the registration's id. */
#define FAULT_ID_BITS 24
#define FAULT_ID_MASK ((1u << FAULT_ID_BITS) - 1)

/**
 * queues_new() - no queue yet
 *
 * Return: zeroed, or NULL with errno set.
 */
struct queues *queues_new(void)
{
	struct queues *queues = calloc(1, sizeof(*queues));

	for (uint32_t i = 0; queues && i < TB_QUEUES_MAX * TB_PORTS_MAX; i++)
		atomic_init(&queues->fd[i / TB_PORTS_MAX][i % TB_PORTS_MAX], -1);
	return queues;
}

/**
 * queues_serial() - number an event
 * @queues: the queues
 *
 * Return: its serial, which no other event has.
 */
uint64_t queues_serial(struct queues *queues)
{
	return atomic_fetch_add(&queues->serial, 1) + 1;
}

/**
 * fault_serial() - when did this slave fail?
 * @fault: of its place
 * @id: its registration
 *
 * Return: the serial; 0: the fault is of a slave that was there before.
 */
static uint64_t fault_serial(uint64_t fault, uint32_t id)
{
	return (fault & FAULT_ID_MASK) == (id & FAULT_ID_MASK) ? fault >> FAULT_ID_BITS : 0;
}

/**
 * queues_fault() - did another pump see this slave fail?
 * @queues: the queues
 * @place: of the slave
 * @id: its registration
 *
 * Return: the serial of the event that told of it; 0: nobody did.
 */
uint64_t queues_fault(const struct queues *queues, uint32_t place, uint32_t id)
{
	return fault_serial(atomic_load(&queues->fault[place]), id);
}

/**
 * queues_claim() - be the pump that tells of a fault
 * @queues: the queues
 * @place: of the slave
 * @id: its registration
 * @seen: faults up to this event are settled
 * @serial: set to that of the event that tells of it, or will
 *
 * Return: false when another pump was first.
 */
bool queues_claim(struct queues *queues, uint32_t place, uint32_t id, uint64_t seen,
		  uint64_t *serial)
{
	uint64_t fault = atomic_load(&queues->fault[place]);

	*serial = fault_serial(fault, id);
	if (*serial > seen)
		return false;
	*serial = queues_serial(queues);
	if (atomic_compare_exchange_strong(&queues->fault[place], &fault,
					   *serial << FAULT_ID_BITS | (id & FAULT_ID_MASK)))
		return true;
	*serial = fault_serial(fault, id);
	return false;
}

/**
 * queues_unclaim() - nobody will hear of the fault: let each pump find out by itself
 * @queues: the queues
 * @place: of the slave
 */
void queues_unclaim(struct queues *queues, uint32_t place)
{
	atomic_store(&queues->fault[place], 0);
}

/**
 * queues_lead() - be the pump that switches to a slave first
 * @queues: the queues
 * @id: the slave's registration, 0 for nobody
 *
 * Return: false when another one was first.
 */
bool queues_lead(struct queues *queues, uint32_t id)
{
	return atomic_exchange(&queues->sender, id) != id;
}

/**
 * queues_announce() - be the pump that announces
 * @pump: has just switched
 * @id: to this slave, 0 for nobody
 * @lead: as the first of all
 * @error: why; 0: it was asked for
 *
 * The last that switches does: what another queue sends by the former slave after an announcement
 * would lead the network's switch back there. From a slave that failed nothing comes any more, so
 * the first need not wait for the others.
 *
 * Return: true for one pump only.
 */
bool queues_announce(struct tb_pump *pump, uint32_t id, bool lead, int error)
{
	struct queues *queues = pump->queues;

	if (lead)
		atomic_store(&queues->announced, error ? id : 0);
	atomic_store(&pump->sending, id);
	if (error)
		return lead;
	for (uint32_t i = 0; i < queues->count; i++)
		if (atomic_load(&queues->member[i]->sending) != id)
			return false;
	return atomic_exchange(&queues->announced, id) != id;
}

/**
 * queues_call() - have all the others look at what failed, now
 * @pump: that saw it
 */
void queues_call(const struct tb_pump *pump)
{
	struct queues *queues = pump->queues;

	if (queues->count == 1)
		return;
	atomic_fetch_add(&queues->calls, 1);
	for (uint32_t i = 0; i < queues->count; i++)
		if (queues->member[i] != pump)
			pump_wake(queues->member[i]);
}

/**
 * queues_open_gates() - let frames in to all the others
 * @pump: the first to switch
 * @ports: bit mask of ports
 *
 * Before the announcement, and before the first frame: the network's switch sends the other queues'
 * flows by the new way from then on. They wait in the sockets until their pump adopts, which it
 * does before it reads them. A gate that another pump has shut again meanwhile stays open for
 * nothing, until it moves the next time.
 */
void queues_open_gates(const struct tb_pump *pump, uint32_t ports)
{
	struct queues *queues = pump->queues;

	for (uint32_t i = 0; i < queues->count; i++) {
		for (uint32_t port = 0; port < TB_PORTS_MAX; port++) {
			int fd = atomic_load(&queues->fd[i][port]);

			if (queues->member[i] != pump && (ports & 1u << port) && fd >= 0)
				tb_port_gate(fd, 1);
		}
	}
}

/**
 * queues_adopted() - the generation that is in force everywhere
 * @queues: the queues
 *
 * Return: the oldest of all.
 */
uint32_t queues_adopted(const struct queues *queues)
{
	uint32_t oldest = atomic_load(&queues->member[0]->adopted);

	for (uint32_t i = 1; i < queues->count; i++) {
		uint32_t adopted = atomic_load(&queues->member[i]->adopted);

		if ((int32_t)(adopted - oldest) < 0)
			oldest = adopted;
	}
	return oldest;
}

/**
 * queues_know() - is this frame from somebody who speaks through any queue of the TAP?
 * @queues: the queues
 * @frame: received on a slave
 * @now: CLOCK_MONOTONIC in ns
 *
 * Return: true when it is.
 */
bool queues_know(struct queues *queues, const struct frame *frame, uint64_t now)
{
	for (uint32_t i = 0; i < queues->count; i++)
		if (sources_knows(&queues->member[i]->sources, frame, now))
			return true;
	return false;
}

/**
 * queues_forget() - somebody speaks elsewhere now
 * @queues: the queues
 * @frame: what he said, received on the sender
 */
void queues_forget(struct queues *queues, const struct frame *frame)
{
	for (uint32_t i = 0; i < queues->count; i++)
		sources_forget(&queues->member[i]->sources, frame);
}

/**
 * tb_pump_set_socket() - say which socket a further queue has on a slave
 * @pump: the first
 * @queue: from 1; the first one's socket is in the selection
 * @place: of the slave
 * @fd: its gate closed; -1: none
 *
 * In force with the next tb_pump_publish().
 */
void tb_pump_set_socket(struct tb_pump *pump, uint32_t queue, uint32_t place, int fd)
{
	if (queue < TB_QUEUES_MAX && place < TB_PORTS_MAX)
		atomic_store(&pump->queues->fd[queue][place], fd);
}

/**
 * tb_pump_publish() - put a selection in force at the next batch, from one thread only
 * @pump: the first
 * @selection: copied; the sockets in it have their gate closed (tb_port_gate())
 *
 * No pump looks into its mailbox before all have the letter: what the first one to adopt it leads
 * to the others' sockets is received by the same rules.
 *
 * Return: its generation; when tb_pump_adopted() has reached it, sockets left out may be closed.
 */
uint32_t tb_pump_publish(struct tb_pump *pump, const struct tb_selection *selection)
{
	struct queues *queues = pump->queues;
	struct tb_selection letter = *selection;
	uint32_t generation = 0;

	for (uint32_t i = 0; i < TB_PORTS_MAX; i++)
		atomic_store(&queues->fd[0][i], selection->port[i].fd);
	for (uint32_t i = queues->count; i--;) {
		for (uint32_t port = 0; port < TB_PORTS_MAX; port++)
			letter.port[port].fd = atomic_load(&queues->fd[i][port]);
		generation = mailbox_post(&queues->member[i]->mailbox, &letter);
	}
	atomic_store_explicit(&queues->published, generation, memory_order_release);
	for (uint32_t i = 0; i < queues->count; i++)
		pump_wake(queues->member[i]);
	return generation;
}

/**
 * tb_pump_adopted() - the generation in force, in every queue
 * @pump: the first
 *
 * Return: the generation, 0 before the first.
 */
uint32_t tb_pump_adopted(const struct tb_pump *pump)
{
	return queues_adopted(pump->queues);
}

/**
 * tb_pump_next_event() - take the oldest event of all queues, from one thread only
 * @pump: the first
 * @event: filled
 *
 * Return: 1, or 0 when nothing waits.
 */
int tb_pump_next_event(struct tb_pump *pump, struct tb_event *event)
{
	struct report *oldest = NULL;
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < pump->queues->count; i++) {
		struct report *report = &pump->queues->member[i]->report;
		uint64_t serial = report_peek(report);

		if (serial && serial < least) {
			least = serial;
			oldest = report;
		}
	}
	return oldest ? report_pop(oldest, event) : 0;
}

/**
 * tb_pump_port_counters() - what one place has carried, over all slaves that were in it
 * @pump: the first
 * @port: below TB_PORTS_MAX
 * @out: filled with the sums over all queues
 */
void tb_pump_port_counters(const struct tb_pump *pump, uint32_t port, struct tb_port_counters *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < pump->queues->count; i++)
		port_stats_add(&pump->queues->member[i]->port[port].stats, out);
}

/**
 * tb_pump_tap_counters() - what was lost without a slave to blame
 * @pump: the first
 * @out: filled with the sums over all queues
 */
void tb_pump_tap_counters(const struct tb_pump *pump, struct tb_tap_counters *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < pump->queues->count; i++)
		tap_stats_add(&pump->queues->member[i]->tap_stats, out);
}
