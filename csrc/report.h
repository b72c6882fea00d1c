/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - what the pump saw, on its way to the control plane. */
#ifndef TAPBOND_REPORT_H
#define TAPBOND_REPORT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "stats.h"
#include "tapbond.h"

#define REPORT_EVENTS 256

struct report {
	int fd;		       /* eventfd, readable when an event waits */
	bool lent;	       /* it is another report's */
	_Atomic uint32_t head; /* the pump's: next to write */
	_Atomic uint32_t tail; /* the control plane's: next to read */
	struct tb_event event[REPORT_EVENTS];
};

int report_init(struct report *report, int lent_fd);
void report_free(struct report *report);
bool report_push(struct report *report, struct tb_event event);
uint64_t report_peek(const struct report *report);
int report_pop(struct report *report, struct tb_event *event);

#endif
