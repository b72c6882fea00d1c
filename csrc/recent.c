// SPDX-License-Identifier: Apache-2.0
/*
 * recent.c - recognise the copies that a flooding switch sends down both paths.
 *
 * A switch that has forgotten the MAC floods, and while a drain lasts two slaves receive: without
 * this, one frame would be delivered twice. One delivered frame cancels exactly one copy from
 * another slave, so a frame that was really sent twice still arrives twice.
 */
#include "recent.h"

/**
 * recent_hash() - a 64-bit hash of a whole frame, eight bytes a step
 * @frame: not a runt
 *
 * Return: the hash.
 */
static uint64_t recent_hash(const struct frame *frame)
{
	const uint8_t *p = frame_ethernet(frame);
	uint32_t left = frame->len - TB_VNET_LEN;
	uint64_t hash = left * 0x9e3779b97f4a7c15ull;

	while (left) {
		uint32_t step = left < 8 ? left : 8;
		uint64_t word = 0;

		memcpy(&word, p, step);
		hash = (hash ^ word) * 0xd6e8feb86659fd93ull;
		hash ^= hash >> 32;
		p += step;
		left -= step;
	}
	/* A multiplication only carries upwards, and the set is chosen by the lowest bits. */
	hash *= 0xff51afd7ed558ccdull;
	return hash ^ hash >> 32;
}

/**
 * recent_begin() - forget everything: a new drain begins
 * @recent: the table
 */
void recent_begin(struct recent *recent)
{
	recent->drain++;
}

/**
 * recent_is_copy() - was this frame delivered already, by another slave?
 * @recent: the table
 * @frame: about to be delivered
 * @port: the slave that it came from
 *
 * Return: true: it is a copy, drop it. False: deliver it; it is remembered.
 */
bool recent_is_copy(struct recent *recent, const struct frame *frame, uint32_t port)
{
	uint64_t hash = recent_hash(frame);
	struct recent_entry *set = recent->entry[hash % RECENT_SETS];
	struct recent_entry *slot = &set[recent->turn++ % RECENT_WAYS];

	for (int way = 0; way < RECENT_WAYS; way++) {
		if (set[way].drain != recent->drain) {
			slot = &set[way];
			continue;
		}
		if (set[way].hash == hash && set[way].port != port) {
			set[way].drain = recent->drain - 1;
			return true;
		}
	}
	slot->hash = hash;
	slot->drain = recent->drain;
	slot->port = port;
	return false;
}
