// SPDX-License-Identifier: Apache-2.0
/*
 * mailbox.c - a triple buffer: one writer, one reader, the newest letter wins.
 *
 * The writer fills the letter at the back and exchanges it with the one in the middle; the reader
 * exchanges the middle with the one it holds. Neither ever waits, and what the reader holds is
 * never written to.
 */
#include "mailbox.h"

#include <stddef.h>
#include <string.h>

#define MAILBOX_FRESH 4u
#define MAILBOX_INDEX 3u

/**
 * mailbox_init() - an empty mailbox: the reader holds a selection without any slave
 * @mailbox: uninitialised
 */
void mailbox_init(struct mailbox *mailbox)
{
	memset(mailbox, 0, sizeof(*mailbox));
	for (int i = 0; i < TB_PORTS_MAX; i++)
		mailbox->letter[0].port[i].fd = -1;
	mailbox->front = 0;
	mailbox->back = 1;
	atomic_init(&mailbox->middle, 2);
}

/**
 * mailbox_post() - publish a selection; one that was not taken yet is replaced
 * @mailbox: the mailbox
 * @selection: copied
 *
 * Return: the generation given to it.
 */
uint32_t mailbox_post(struct mailbox *mailbox, const struct tb_selection *selection)
{
	struct tb_selection *letter = &mailbox->letter[mailbox->back];

	*letter = *selection;
	letter->generation = ++mailbox->generation;
	mailbox->back = atomic_exchange_explicit(&mailbox->middle, mailbox->back | MAILBOX_FRESH,
						 memory_order_acq_rel) &
			MAILBOX_INDEX;
	return mailbox->generation;
}

/**
 * mailbox_take() - look for a new selection
 * @mailbox: the mailbox
 *
 * Return: the newest one, valid until the next that is not NULL; NULL: nothing new.
 */
const struct tb_selection *mailbox_take(struct mailbox *mailbox)
{
	if (!(atomic_load_explicit(&mailbox->middle, memory_order_relaxed) & MAILBOX_FRESH))
		return NULL;
	mailbox->front =
		atomic_exchange_explicit(&mailbox->middle, mailbox->front, memory_order_acq_rel) &
		MAILBOX_INDEX;
	return &mailbox->letter[mailbox->front];
}
