/* SPDX-License-Identifier: Apache-2.0 */
/* vlan.h - the tag that a packet socket hands over beside the frame. */
#ifndef TAPBOND_VLAN_H
#define TAPBOND_VLAN_H

#define VLAN_TAG_LEN 4

#endif
