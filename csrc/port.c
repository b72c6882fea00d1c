// SPDX-License-Identifier: Apache-2.0
/*
 * port.c - send over one slave, and tell what a failure means.
 */
#include "port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>

/* How long an answer about the carrier holds, so that a full queue does not ask for every frame. */
#define CHECK_NS 1000000ull

/**
 * port_send() - send the frames of a batch from batch->first on
 * @port: a slave
 * @batch: the frames
 *
 * A slave that was down for a moment leaves an error on its socket, and so does a batch of received
 * frames that ended in one (port_excuse()). The next send returns that instead of sending: the
 * first error is tried against a second one.
 *
 * Return: how many were taken, or -errno for the first of them.
 */
int port_send(const struct port *port, struct batch *batch)
{
	int n = batch_send(batch, port->fd);

	return n == -ENETDOWN || n == -EINVAL ? batch_send(batch, port->fd) : n;
}

/**
 * port_lost_carrier() - is a full queue in truth a link that is gone?
 * @port: a slave whose send said ENOBUFS
 * @now: CLOCK_MONOTONIC in ns
 *
 * Return: true when the link is down or without carrier.
 */
static bool port_lost_carrier(struct port *port, uint64_t now)
{
	struct sockaddr_ll address;
	socklen_t len = sizeof(address);

	if (now - port->checked_ns < CHECK_NS)
		return false;
	port->checked_ns = now;
	if (getsockname(port->fd, (struct sockaddr *)&address, &len) < 0 ||
	    address.sll_family != AF_PACKET)
		return false;
	return tb_link_ready(port->fd, address.sll_ifindex) <= 0;
}

/**
 * port_leave_bypass() - go through the qdisc from now on, if we did not
 * @port: a slave whose send said ENOBUFS
 * @frame: what it did not take
 *
 * The direct way (tb_port_direct()) drops a frame that the device cannot segment by itself; the way
 * through the stack has the kernel do it.
 *
 * Return: true when the way has changed, so that the frame deserves another try.
 */
static bool port_leave_bypass(const struct port *port, const struct frame *frame)
{
	const struct virtio_net_hdr *header = (const void *)frame->data;
	int direct = 0;
	socklen_t len = sizeof(direct);

	if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return false;
	if (getsockopt(port->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &direct, &len) < 0 || !direct)
		return false;
	return tb_port_direct(port->fd, 0) == 0;
}

/**
 * port_judge() - whose fault is it?
 * @port: a slave
 * @error: errno of its failed send
 * @frame: what it did not take
 * @now: CLOCK_MONOTONIC in ns
 *
 * packet_snd() in net/packet/af_packet.c has the errors: ENETDOWN for a link that is down, ENXIO
 * and ENODEV for one that is gone, EMSGSIZE and EINVAL for a frame that no slave would take (all
 * have one MTU), EAGAIN for a full socket buffer. ENOBUFS is a queue that dropped the frame, or a
 * link without carrier.
 *
 * Return: the verdict.
 */
enum port_verdict port_judge(struct port *port, int error, const struct frame *frame, uint64_t now)
{
	switch (error) {
	case EAGAIN:
		return PORT_BUSY;
	case EMSGSIZE:
	case EINVAL:
	case EFAULT:
	case ENOMEM:
		return PORT_FRAME;
	case ENOBUFS:
		if (port_lost_carrier(port, now))
			return PORT_FAULT;
		return port_leave_bypass(port, frame) ? PORT_AGAIN : PORT_FRAME;
	default:
		return PORT_FAULT;
	}
}

/**
 * port_excuse() - is a failed receive the fault of a frame and not of the slave?
 * @port: a slave
 * @error: errno of the receive, or 0
 *
 * packet_rcv_vnet() in net/packet/af_packet.c says EINVAL of a super-frame that no virtio_net_hdr
 * describes (UDP before Linux 6.2, SCTP). That frame is lost and counted; leaving the slave for it
 * would let any neighbour switch us over.
 *
 * Return: @error, or 0 when it is excused.
 */
int port_excuse(struct port *port, int error)
{
	if (error != EINVAL)
		return error;
	stat_add(&port->stats.rx_errors, 1);
	return 0;
}

/**
 * port_error() - take the error that waits on the socket
 * @port: a slave
 *
 * Return: an errno, or 0.
 */
int port_error(const struct port *port)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(port->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return errno;
	return error;
}

/**
 * port_bind() - tie a packet socket to a link
 * @fd: see tb_port_bind()
 * @ifindex: the link
 * @protocol: what it hears, in network byte order
 *
 * A link that is down leaves ENETDOWN on the socket (packet_do_bind()); it is taken off here, as
 * is whatever an earlier link left.
 *
 * Return: 0 or -errno.
 */
static int port_bind(int fd, uint32_t ifindex, uint16_t protocol)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = protocol,
		.sll_ifindex = ifindex,
	};
	struct port port = {.fd = fd};

	port_error(&port);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	port_error(&port);
	return 0;
}

/**
 * tb_port_bind() - begin to hear a link, by its index: a name may change hands in between
 * @fd: a packet socket made with protocol 0, so that it has heard nothing yet
 * @ifindex: the link
 *
 * Return: 0 or -errno.
 */
int tb_port_bind(int fd, uint32_t ifindex)
{
	return port_bind(fd, ifindex, htons(ETH_P_ALL));
}

/**
 * tb_port_bind_deaf() - send by a link and hear nothing
 * @fd: as for tb_port_bind()
 * @ifindex: the link
 *
 * Return: 0 or -errno.
 */
int tb_port_bind_deaf(int fd, uint32_t ifindex)
{
	return port_bind(fd, ifindex, 0);
}

/**
 * tb_port_direct() - hand frames to the driver, past the qdisc
 * @fd: a packet socket
 * @direct: whether to
 *
 * For a link whose qdisc is noqueue there is nothing to go past, and the direct way says ENOBUFS
 * for a link without carrier from the first moment (__dev_direct_xmit() in net/core/dev.c), where
 * the other one may swallow the frame and call it sent.
 *
 * Return: 0 or -errno.
 */
int tb_port_direct(int fd, int direct)
{
	return setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &direct, sizeof(direct)) < 0 ? -errno
											    : 0;
}

/**
 * tb_port_gate() - let frames in, or drop them in the kernel before they cost anything
 * @fd: a packet socket
 * @open: whether frames may come in
 *
 * A classic BPF program that returns 0 drops everything (socket(7), SO_ATTACH_FILTER); it needs no
 * privilege. Frames that already wait on the socket stay there.
 *
 * Return: 0 or -errno.
 */
int tb_port_gate(int fd, int open)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = {.len = 1, .filter = &drop};
	int unused = 0;

	if (!open)
		return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0
			       ? -errno
			       : 0;
	if (setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused)) < 0 &&
	    errno != ENOENT)
		return -errno;
	return 0;
}
