// SPDX-License-Identifier: Apache-2.0
/*
 * vlan.c - put a VLAN tag back where the kernel took it out.
 *
 * A packet socket sees frames after skb_vlan_untag(): the tag is in the auxdata (packet(7),
 * PACKET_AUXDATA), and the offsets of the virtio_net_hdr are those of the frame without it.
 */
#include "vlan.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "frame.h"
#include "tapbond.h"

#define MACS_LEN 12

/**
 * tb_vlan_insert() - insert a tag into a frame that has VLAN_TAG_LEN bytes of room before it
 * @frame: the virtio_net_hdr, followed by the Ethernet frame
 * @len: length of both together
 * @tpid: tag protocol, host order (0x8100, 0x88a8)
 * @tci: priority, DEI and VLAN id, host order
 *
 * The header and the two addresses move VLAN_TAG_LEN bytes towards the front; the payload, often
 * 64 KiB of it, stays where it is. The frame then begins at @frame - VLAN_TAG_LEN.
 *
 * Return: 0, or -EINVAL when the frame is too short to carry a tag (nothing is changed then).
 */
int tb_vlan_insert(uint8_t *frame, uint32_t len, uint16_t tpid, uint16_t tci)
{
	uint8_t *start = frame - VLAN_TAG_LEN;
	struct virtio_net_hdr header;
	uint8_t *tag;

	if (len < TB_VNET_LEN + ETHERNET_LEN)
		return -EINVAL;

	memcpy(&header, frame, TB_VNET_LEN);
	if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		header.csum_start += VLAN_TAG_LEN;
	if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		header.hdr_len += VLAN_TAG_LEN;

	memcpy(start, &header, TB_VNET_LEN);
	memmove(start + TB_VNET_LEN, frame + TB_VNET_LEN, MACS_LEN);
	tag = start + TB_VNET_LEN + MACS_LEN;
	tag[0] = tpid >> 8;
	tag[1] = tpid & 0xff;
	tag[2] = tci >> 8;
	tag[3] = tci & 0xff;
	return 0;
}
