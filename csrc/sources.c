// SPDX-License-Identifier: Apache-2.0
/*
 * sources.c - remember the source addresses of what leaves by the TAP.
 *
 * A bridge with the TAP as a port speaks for virtual machines, a TAP in another namespace for
 * addresses that cannot be seen from here. A switch knows them all behind the former sender; it
 * learns better from what the new one says in their names. A table of a fixed size: a frame costs
 * one load and one comparison as long as it comes from where the one before it came from.
 */
#include "sources.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/if_ether.h>
#include <stdlib.h>

#include "vlan.h"

/* How long a switch remembers a MAC by default (IEEE 802.1D, table 7-5; ageing_time of a bridge).
 */
#define SOURCES_AGE_NS (300ull * 1000 * 1000 * 1000)

#define SOURCE_SERVICE_TAG 0x1000
#define SOURCE_TAG_MASK 0xffffull
#define SOURCE_GROUP_BIT (1ull << 56)
#define VLAN_ID_MASK 0xfff

#define ARP_LEN 28
#define RARP_REQUEST_REVERSE 3
#define MIN_FRAME 60

/**
 * source_key() - who sent this frame?
 * @frame: as the TAP or a slave gave it
 *
 * The eight bytes from the source address on are the MAC and the type behind it. A tag with the id
 * 0 says nothing but a priority (IEEE 802.1Q, 9.6): that is the untagged source.
 *
 * Return: its key; 0 for a frame too short or from an address that nobody can have.
 */
static uint64_t source_key(const struct frame *frame)
{
	uint64_t word, mac;
	uint16_t type, tci;

	if (frame_is_runt(frame))
		return 0;
	memcpy(&word, frame_ethernet(frame) + MAC_LEN, sizeof(word));
	word = be64toh(word);
	mac = word & ~SOURCE_TAG_MASK;
	type = word & SOURCE_TAG_MASK;
	if (mac & SOURCE_GROUP_BIT)
		return 0;
	if ((type != ETH_P_8021Q && type != ETH_P_8021AD) ||
	    frame_size(frame) < ETHERNET_LEN + VLAN_TAG_LEN)
		return mac;
	memcpy(&tci, frame_ethernet(frame) + ETHERNET_LEN, sizeof(tci));
	tci = ntohs(tci) & VLAN_ID_MASK;
	if (!tci)
		return mac;
	return mac | tci | (type == ETH_P_8021AD ? SOURCE_SERVICE_TAG : 0);
}

/**
 * source_of() - whose entry is it?
 * @source: an entry
 *
 * A relaxed load is a plain one; so are the stores.
 *
 * Return: his key.
 */
static uint64_t source_of(const struct source *source)
{
	return atomic_load_explicit(&source->key, memory_order_relaxed);
}

/**
 * source_seen() - when was he heard last?
 * @source: an entry
 *
 * Return: CLOCK_MONOTONIC in ns.
 */
static uint64_t source_seen(const struct source *source)
{
	return atomic_load_explicit(&source->seen_ns, memory_order_relaxed);
}

/**
 * source_lives() - has it been heard lately?
 * @source: an entry
 * @now: CLOCK_MONOTONIC in ns
 *
 * Return: true when it has.
 */
static bool source_lives(const struct source *source, uint64_t now)
{
	return source_of(source) && now - source_seen(source) < SOURCES_AGE_NS;
}

/**
 * sources_set() - which entries could hold a key
 * @sources: the table
 * @key: of a frame
 *
 * Return: the first of SOURCES_WAYS entries.
 */
static struct source *sources_set(struct tb_sources *sources, uint64_t key)
{
	uint32_t set = (key * 0x9e3779b97f4a7c15ull >> 32) % SOURCES_SETS;

	return &sources->entry[set * SOURCES_WAYS];
}

/**
 * sources_find() - look for a key
 * @sources: the table
 * @key: of a frame; 0 is never found
 *
 * Return: its entry, or NULL.
 */
static struct source *sources_find(struct tb_sources *sources, uint64_t key)
{
	struct source *set = sources_set(sources, key);

	for (int way = 0; key && way < SOURCES_WAYS; way++)
		if (source_of(&set[way]) == key)
			return &set[way];
	return NULL;
}

/**
 * sources_place() - find the entry of a key, or give it one: the one that was silent longest goes
 * @sources: the table
 * @key: of a frame
 *
 * Return: the entry; sources->nobody for what is not to be learned.
 */
static struct source *sources_place(struct tb_sources *sources, uint64_t key)
{
	struct source *set = sources_set(sources, key);
	struct source *oldest = set;

	if (!(key & ~SOURCE_TAG_MASK) || key == sources->own || key == sources->former)
		return &sources->nobody;
	for (int way = 0; way < SOURCES_WAYS; way++) {
		if (source_of(&set[way]) == key)
			return &set[way];
		if (source_seen(&set[way]) < source_seen(oldest))
			oldest = &set[way];
	}
	atomic_store_explicit(&oldest->key, key, memory_order_relaxed);
	return oldest;
}

/**
 * source_void() - take an entry out
 * @source: the entry
 */
static void source_void(struct source *source)
{
	atomic_store_explicit(&source->key, 0, memory_order_relaxed);
	atomic_store_explicit(&source->seen_ns, 0, memory_order_relaxed);
}

/**
 * sources_init() - an empty table
 * @sources: zeroed
 */
void sources_init(struct tb_sources *sources)
{
	sources->current = &sources->nobody;
}

/**
 * sources_set_own() - say which MAC is the failover's
 * @sources: the table
 * @mac: 6 bytes
 *
 * What was learned from either address, the one before or the new one, is void: frames that were
 * under way when it changed.
 */
void sources_set_own(struct tb_sources *sources, const uint8_t *mac)
{
	uint64_t word = 0;

	memcpy(&word, mac, MAC_LEN);
	word = be64toh(word);
	if (word == sources->own)
		return;
	sources->former = sources->own;
	sources->own = word;
	for (uint32_t i = 0; i < TB_SOURCES_MAX; i++) {
		struct source *entry = &sources->entry[i];
		uint64_t of = source_of(entry) & ~SOURCE_TAG_MASK;

		if (of && (of == sources->own || of == sources->former))
			source_void(entry);
	}
	sources->last = 0;
	sources->current = &sources->nobody;
}

/**
 * sources_lost() - has the source of the frame before this one been forgotten since?
 * @sources: the table
 *
 * Return: true when it has.
 */
static bool sources_lost(const struct tb_sources *sources)
{
	return sources->current != &sources->nobody && source_of(sources->current) != sources->last;
}

/**
 * sources_learn() - remember who sent the frames of a batch
 * @sources: the table
 * @batch: read from the TAP
 * @now: CLOCK_MONOTONIC in ns
 */
void sources_learn(struct tb_sources *sources, const struct batch *batch, uint64_t now)
{
	for (unsigned int i = 0; i < batch->count; i++) {
		uint64_t key = source_key(&batch->frame[i]);

		if (key != sources->last || sources_lost(sources)) {
			sources->last = key;
			sources->current = sources_place(sources, key);
		}
		atomic_store_explicit(&sources->current->seen_ns, now, memory_order_relaxed);
	}
}

/**
 * sources_have() - was this source heard lately?
 * @sources: the table
 * @key: the source
 * @now: CLOCK_MONOTONIC in ns
 *
 * Return: true when it was.
 */
bool sources_have(struct tb_sources *sources, uint64_t key, uint64_t now)
{
	struct source *found = sources_find(sources, key);

	return found && source_lives(found, now);
}

/**
 * sources_knows() - is this frame from somebody who speaks through the TAP?
 * @sources: the table
 * @frame: received on a slave
 * @now: CLOCK_MONOTONIC in ns
 *
 * Return: true when it is.
 */
bool sources_knows(struct tb_sources *sources, const struct frame *frame, uint64_t now)
{
	return sources_have(sources, source_key(frame), now);
}

/**
 * sources_forget() - somebody speaks elsewhere now
 * @sources: the table
 * @frame: what he said, received on the sender
 */
void sources_forget(struct tb_sources *sources, const struct frame *frame)
{
	struct source *found = sources_find(sources, source_key(frame));

	if (found)
		source_void(found);
}

/**
 * sources_announce() - the frame that tells a switch where a source lives now
 * @key: the source
 * @frame: room for TB_RARP_LEN bytes, zeroed from the addresses on
 *
 * A RARP request for one's own address, as QEMU announces a guest.
 *
 * Return: its length.
 */
uint32_t sources_announce(uint64_t key, uint8_t *frame)
{
	/* Ethernet, IPv4, the lengths of their addresses, the operation (RFC 903). */
	static const uint8_t head[] = {0, 1, 8, 0, MAC_LEN, 4, 0, RARP_REQUEST_REVERSE};
	uint16_t tag[2] = {htons(key & SOURCE_SERVICE_TAG ? ETH_P_8021AD : ETH_P_8021Q),
			   htons(key & VLAN_ID_MASK)};
	uint16_t type = htons(ETH_P_RARP);
	uint64_t mac = htobe64(key);
	uint8_t *p = frame;

	memset(p, 0xff, MAC_LEN);
	memcpy(p + MAC_LEN, &mac, MAC_LEN);
	p += 2 * MAC_LEN;
	if (key & VLAN_ID_MASK) {
		memcpy(p, tag, VLAN_TAG_LEN);
		p += VLAN_TAG_LEN;
	}
	memcpy(p, &type, sizeof(type));
	memset(p + sizeof(type), 0, MIN_FRAME - ETHERNET_LEN);
	p += sizeof(type);
	memcpy(p, head, sizeof(head));
	memcpy(p + sizeof(head), &mac, MAC_LEN);
	memcpy(p + ARP_LEN - MAC_LEN - 4, &mac, MAC_LEN);
	return p - frame + MIN_FRAME - ETHERNET_LEN;
}

/**
 * sources_at() - who is in one place of the table?
 * @sources: the table
 * @place: below TB_SOURCES_MAX
 * @now: CLOCK_MONOTONIC in ns
 *
 * Return: his key, 0 when nobody is who was heard lately.
 */
uint64_t sources_at(const struct tb_sources *sources, uint32_t place, uint64_t now)
{
	const struct source *source = &sources->entry[place];

	return source_lives(source, now) ? source_of(source) : 0;
}

/**
 * tb_sources_new() - a table of its own, for a test
 *
 * Return: the table, or NULL with errno set.
 */
struct tb_sources *tb_sources_new(void)
{
	struct tb_sources *sources = calloc(1, sizeof(*sources));

	if (sources)
		sources_init(sources);
	return sources;
}

/**
 * tb_sources_free() - give it back
 * @sources: may be NULL
 */
void tb_sources_free(struct tb_sources *sources)
{
	free(sources);
}

/**
 * tb_sources_learn() - remember who sent a frame
 * @sources: the table
 * @frame: with its virtio_net_hdr
 * @len: of both
 * @now: CLOCK_MONOTONIC in ns
 */
void tb_sources_learn(struct tb_sources *sources, uint8_t *frame, uint32_t len, uint64_t now)
{
	struct batch batch;

	batch.count = 1;
	batch.frame[0].data = frame;
	batch.frame[0].len = len;
	sources_learn(sources, &batch, now);
}

/**
 * tb_sources_knows() - sources_knows() of plain bytes
 * @sources: the table
 * @frame: with its virtio_net_hdr
 * @len: of both
 * @now: CLOCK_MONOTONIC in ns
 *
 * Return: 1 or 0.
 */
int tb_sources_knows(struct tb_sources *sources, uint8_t *frame, uint32_t len, uint64_t now)
{
	struct frame one = {.data = frame, .len = len};

	return sources_knows(sources, &one, now);
}
