// SPDX-License-Identifier: Apache-2.0
/*
 * stats.c - hand the counters to the control plane.
 */
#include "stats.h"

/**
 * stat_get() - read a counter that another thread writes
 * @stat: the counter
 *
 * Return: its value.
 */
static uint64_t stat_get(const stat_t *stat)
{
	return atomic_load_explicit(stat, memory_order_relaxed);
}

/**
 * port_stats_add() - add the counters of one slave
 * @stats: the pump's
 * @out: the sums
 */
void port_stats_add(const struct port_stats *stats, struct tb_port_counters *out)
{
	out->tx_frames += stat_get(&stats->tx_frames);
	out->tx_bytes += stat_get(&stats->tx_bytes);
	out->tx_errors += stat_get(&stats->tx_errors);
	out->tx_dropped += stat_get(&stats->tx_dropped);
	out->tx_resent += stat_get(&stats->tx_resent);
	out->rx_frames += stat_get(&stats->rx_frames);
	out->rx_bytes += stat_get(&stats->rx_bytes);
	out->rx_errors += stat_get(&stats->rx_errors);
	out->rx_dropped += stat_get(&stats->rx_dropped);
	out->rx_duplicate += stat_get(&stats->rx_duplicate);
	out->announced += stat_get(&stats->announced);
}

/**
 * tap_stats_add() - add the counters of the TAP
 * @stats: the pump's
 * @out: the sums
 */
void tap_stats_add(const struct tap_stats *stats, struct tb_tap_counters *out)
{
	out->tx_dropped += stat_get(&stats->tx_dropped);
	out->rx_dropped += stat_get(&stats->rx_dropped);
	out->events_lost += stat_get(&stats->events_lost);
}
