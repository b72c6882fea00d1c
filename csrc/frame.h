/* SPDX-License-Identifier: Apache-2.0 */
/* frame.h - one frame in a buffer: its virtio_net_hdr, then Ethernet. */
#ifndef TAPBOND_FRAME_H
#define TAPBOND_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tapbond.h"

#define ETHERNET_LEN 14
#define MAC_LEN 6

struct frame {
	uint8_t *data; /* the virtio_net_hdr */
	uint32_t len;  /* both together; 0: nothing to deliver */
};

/**
 * frame_ethernet() - where the Ethernet header begins
 * @frame: a whole frame
 *
 * Return: the destination address.
 */
static inline const uint8_t *frame_ethernet(const struct frame *frame)
{
	return frame->data + TB_VNET_LEN;
}

/**
 * frame_size() - how long a frame is on the wire
 * @frame: a whole frame, or less than one
 *
 * Return: bytes without the virtio_net_hdr.
 */
static inline uint32_t frame_size(const struct frame *frame)
{
	return frame->len > TB_VNET_LEN ? frame->len - TB_VNET_LEN : 0;
}

/**
 * frame_is_runt() - too short for an Ethernet header
 * @frame: what was received
 *
 * Return: true when it is.
 */
static inline bool frame_is_runt(const struct frame *frame)
{
	return frame->len < TB_VNET_LEN + ETHERNET_LEN;
}

/**
 * frame_is_multicast() - is it for a group (broadcast included)?
 * @frame: a whole frame
 *
 * Return: true when the group bit of the destination is set.
 */
static inline bool frame_is_multicast(const struct frame *frame)
{
	return frame_ethernet(frame)[0] & 1;
}

/**
 * frame_is_from() - does the source address say @mac?
 * @frame: a whole frame
 * @mac: 6 bytes
 *
 * Return: true when it does.
 */
static inline bool frame_is_from(const struct frame *frame, const uint8_t *mac)
{
	return memcmp(frame_ethernet(frame) + MAC_LEN, mac, MAC_LEN) == 0;
}

#endif
