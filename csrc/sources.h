/* SPDX-License-Identifier: Apache-2.0 */
/* sources.h - who else speaks through the TAP: virtual machines, containers, VLANs. */
#ifndef TAPBOND_SOURCES_H
#define TAPBOND_SOURCES_H

#include <stdatomic.h>

#include "batch.h"
#include "tapbond.h"

#define SOURCES_WAYS 4
#define SOURCES_SETS (TB_SOURCES_MAX / SOURCES_WAYS)

/*
 * A source is its MAC, first byte first, in the upper 48 bits of a key, and its outermost VLAN tag
 * in the lower 16: the id, and SOURCE_SERVICE_TAG for a tag of 802.1ad. Key 0 is nobody.
 */
struct source {
	_Atomic uint64_t key;
	_Atomic uint64_t seen_ns; /* CLOCK_MONOTONIC */
};

/*
 * One pump learns; the others look, and forget. Between them an entry may be half of one source and
 * half of another, for as long as it takes to write two words.
 */
struct tb_sources {
	uint64_t own;		/* the failover itself, without a tag: announced by others */
	uint64_t former;	/* what it was before its MAC changed */
	uint64_t last;		/* of the frame before this one */
	struct source *current; /* where @last stands */
	struct source nobody;	/* stands for what is not learned */
	struct source entry[TB_SOURCES_MAX];
};

void sources_init(struct tb_sources *sources);
void sources_set_own(struct tb_sources *sources, const uint8_t *mac);
void sources_learn(struct tb_sources *sources, const struct batch *batch, uint64_t now);
bool sources_knows(struct tb_sources *sources, const struct frame *frame, uint64_t now);
void sources_forget(struct tb_sources *sources, const struct frame *frame);
uint64_t sources_at(const struct tb_sources *sources, uint32_t place, uint64_t now);
bool sources_have(struct tb_sources *sources, uint64_t key, uint64_t now);
uint32_t sources_announce(uint64_t key, uint8_t *frame);

#endif
