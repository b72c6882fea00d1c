/* SPDX-License-Identifier: Apache-2.0 */
/* pump.h - the state of a pump thread. Everything is its own, except where it says otherwise. */
#ifndef TAPBOND_PUMP_H
#define TAPBOND_PUMP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "batch.h"
#include "busy.h"
#include "mailbox.h"
#include "port.h"
#include "queues.h"
#include "recent.h"
#include "report.h"
#include "sources.h"
#include "stats.h"

#define NOBODY (-1)

/* What an epoll event is about: a port below TB_PORTS_MAX, or one of these. */
#define TAG_TAP TB_PORTS_MAX
#define TAG_WAKE (TB_PORTS_MAX + 1)

struct tb_pump {
	struct queues *queues; /* shared */
	int tap_fd;
	int epoll_fd;
	int wake_fd; /* written by the control plane */
	bool running;
	pthread_t thread;

	struct mailbox mailbox;	     /* shared */
	struct report report;	     /* shared */
	_Atomic bool stopping;	     /* written by the control plane */
	_Atomic uint32_t adopted;    /* read by the control plane */
	_Atomic uint32_t sending;    /* read by the other pumps: the id of @sender's slave */
	_Atomic int32_t sender_seen; /* read by the control plane: a copy of @sender */

	const struct tb_selection *selection;
	struct port port[TB_PORTS_MAX];
	int sender;	    /* the port that sends, or NOBODY */
	uint32_t suspended; /* ports that failed since they were called ready */
	uint32_t receive;   /* ports that deliver everything */
	uint32_t draining;  /* ports that still deliver unicast */
	uint32_t gate_open; /* ports whose frames reach us */
	uint64_t drain_until;
	uint64_t now;	/* CLOCK_MONOTONIC in ns, as of this round */
	int blocked;	/* the port whose socket is full while tx holds frames, or NOBODY */
	int resend;	/* the port that failed on the frame at tx.first, or NOBODY */
	uint32_t calls; /* of the queues, as far as they were followed */
	uint32_t announced_round; /* the announce_round that was answered */

	struct busy busy;
	struct tap_stats tap_stats;
	struct batch tx, rx;
	struct recent recent;
	struct tb_sources sources;
};

/* pump.c */
uint64_t pump_clock(void);
bool pump_tolerates(const struct tb_pump *pump, int error);
bool pump_tell(struct tb_pump *pump, uint32_t kind, int port, int error);
bool pump_tell_as(struct tb_pump *pump, uint64_t serial, uint32_t kind, int port, int error);
void pump_wake(struct tb_pump *pump);
int pump_watch(struct tb_pump *pump, int operation, int fd, uint32_t events, uint32_t tag);

/* forward.c */
void pump_transmit(struct tb_pump *pump);
void pump_flush(struct tb_pump *pump);
void pump_lose_tap(struct tb_pump *pump, int error);
void pump_deliver(struct tb_pump *pump, uint32_t index);
void pump_unblock(struct tb_pump *pump);

/* adopt.c */
void pump_adopt(struct tb_pump *pump);
void pump_follow(struct tb_pump *pump);
void pump_switch(struct tb_pump *pump, int to, int error);
void pump_fault(struct tb_pump *pump, uint32_t index, int error);
void pump_end_drain(struct tb_pump *pump);

#endif
