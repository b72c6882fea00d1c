/* SPDX-License-Identifier: Apache-2.0 */
/* mailbox.h - the newest selection, handed from the control plane to the pump without a lock. */
#ifndef TAPBOND_MAILBOX_H
#define TAPBOND_MAILBOX_H

#include <stdatomic.h>

#include "tapbond.h"

struct mailbox {
	struct tb_selection letter[3];
	_Atomic uint32_t middle; /* index of the letter between the two, with MAILBOX_FRESH */
	uint32_t back;		 /* the writer's */
	uint32_t front;		 /* the reader's */
	uint32_t generation;
};

void mailbox_init(struct mailbox *mailbox);
uint32_t mailbox_post(struct mailbox *mailbox, const struct tb_selection *selection);
const struct tb_selection *mailbox_take(struct mailbox *mailbox);

#endif
