/* SPDX-License-Identifier: Apache-2.0 */
/* port.h - one slave as the pump sees it: a socket, its counters, what is wrong with it. */
#ifndef TAPBOND_PORT_H
#define TAPBOND_PORT_H

#include "batch.h"
#include "stats.h"

struct port {
	int fd; /* -1: empty */
	uint32_t id;
	uint64_t fault_serial; /* of the event that told of its fault; 0: fine */
	uint64_t checked_ns;   /* when its carrier was last asked for */
	struct port_stats stats;
};

/* Whose fault a failed send is. */
enum port_verdict {
	PORT_BUSY,  /* nobody's: wait until the socket is writable */
	PORT_AGAIN, /* the way's: it has been changed, send the same frame again */
	PORT_FRAME, /* the frame's, or a queue that is full: drop this frame, go on */
	PORT_FAULT, /* the slave's: send the same frame over the next one */
};

int port_send(const struct port *port, struct batch *batch);
enum port_verdict port_judge(struct port *port, int error, const struct frame *frame, uint64_t now);
int port_excuse(struct port *port, int error);
int port_error(const struct port *port);

#endif
