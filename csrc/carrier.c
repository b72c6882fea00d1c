// SPDX-License-Identifier: Apache-2.0
/*
 * carrier.c - ask the kernel whether a link could carry a frame now.
 *
 * IFF_RUNNING follows the operational state, which linkwatch may hold back for a second
 * (net/core/link_watch.c); ETHTOOL_GLINK reads the carrier itself. Not sysfs: in an unshared
 * network namespace that still shows the old one.
 */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tapbond.h"

/**
 * tb_link_ready() - administratively up, and carrier on?
 * @fd: any socket in the link's network namespace
 * @ifindex: the link
 *
 * This takes the kernel's RTNL lock for a moment, so it is for a poll and for errors, not for
 * every frame.
 *
 * Return: 1 ready, 0 not, -ENODEV when there is no such link, or another -errno.
 */
int tb_link_ready(int fd, uint32_t ifindex)
{
	struct ethtool_value link = {.cmd = ETHTOOL_GLINK};
	struct ifreq request;

	memset(&request, 0, sizeof(request));
	request.ifr_ifindex = ifindex;
	if (ioctl(fd, SIOCGIFNAME, &request) < 0)
		return -errno;
	/* SIOCGIFFLAGS overwrites the union that held the index, not the name. */
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return -errno;
	if (!(request.ifr_flags & IFF_UP))
		return 0;
	/* A driver without get_link is trusted. */
	request.ifr_data = (char *)&link;
	if (ioctl(fd, SIOCETHTOOL, &request) < 0)
		return errno == EOPNOTSUPP ? 1 : -errno;
	return link.data != 0;
}
