/* SPDX-License-Identifier: Apache-2.0 */
/* queues.h - what the pumps of one failover share: one for each queue of its TAP. */
#ifndef TAPBOND_QUEUES_H
#define TAPBOND_QUEUES_H

#include <stdatomic.h>
#include <stdbool.h>

#include "frame.h"
#include "tapbond.h"

/*
 * Everything here is atomic or fixed before the first thread starts. A slave is told from another
 * by its registration's id, not by its place; id 0 is nobody.
 */
struct queues {
	uint32_t count;
	struct tb_pump *member[TB_QUEUES_MAX]; /* the first is the one the control plane knows */

	_Atomic uint32_t published;	      /* the generation that lies in every mailbox */
	_Atomic uint64_t serial;	      /* of the newest event */
	_Atomic uint64_t fault[TB_PORTS_MAX]; /* the newest of each place: its serial and id */
	_Atomic uint32_t calls;		      /* each one more: a sender has failed */
	_Atomic uint32_t sender;	      /* the slave that the first pump to switch chose */
	_Atomic uint32_t announced;	      /* on which slave, of those in @sender */
	_Atomic uint32_t await_tx, await_rx;  /* the slave whose first frame is to be told of */
	_Atomic bool tap_lost;
	_Atomic int32_t fd[TB_QUEUES_MAX][TB_PORTS_MAX]; /* each queue's sockets */
};

/**
 * queues_first() - is this the first frame by a new sender?
 * @await: await_tx or await_rx
 * @id: of the slave that carried it
 *
 * Return: true for one pump only.
 */
static inline bool queues_first(_Atomic uint32_t *await, uint32_t id)
{
	return id && atomic_load_explicit(await, memory_order_relaxed) == id &&
	       atomic_compare_exchange_strong(await, &id, 0);
}

struct queues *queues_new(void);
uint64_t queues_serial(struct queues *queues);
bool queues_claim(struct queues *queues, uint32_t place, uint32_t id, uint64_t seen,
		  uint64_t *serial);
void queues_unclaim(struct queues *queues, uint32_t place);
uint64_t queues_fault(const struct queues *queues, uint32_t place, uint32_t id);
bool queues_lead(struct queues *queues, uint32_t id);
bool queues_announce(struct tb_pump *pump, uint32_t id, bool lead, int error);
void queues_call(const struct tb_pump *pump);
void queues_open_gates(const struct tb_pump *pump, uint32_t ports);
uint32_t queues_adopted(const struct queues *queues);
bool queues_know(struct queues *queues, const struct frame *frame, uint64_t now);
void queues_forget(struct queues *queues, const struct frame *frame);

#endif
