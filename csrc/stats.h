/* SPDX-License-Identifier: Apache-2.0 */
/* stats.h - counters with one writer, the pump, and any number of readers. */
#ifndef TAPBOND_STATS_H
#define TAPBOND_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "tapbond.h"

typedef _Atomic uint64_t stat_t;

struct port_stats {
	stat_t tx_frames, tx_bytes, tx_errors, tx_dropped, tx_resent;
	stat_t rx_frames, rx_bytes, rx_errors, rx_dropped, rx_duplicate;
	stat_t announced;
};

struct tap_stats {
	stat_t tx_dropped, rx_dropped, events_lost;
};

/**
 * stat_add() - count, as the only writer
 * @stat: the counter
 * @n: how many
 *
 * A relaxed load and store compile to a plain add: no locked instruction, no torn read.
 */
static inline void stat_add(stat_t *stat, uint64_t n)
{
	atomic_store_explicit(stat, atomic_load_explicit(stat, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

void port_stats_add(const struct port_stats *stats, struct tb_port_counters *out);
void tap_stats_add(const struct tap_stats *stats, struct tb_tap_counters *out);

#endif
