// SPDX-License-Identifier: Apache-2.0
/* A batch of frames in at one end and out at another, for the benchmark of what is between them. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "bench.h"

#define RELAY_BATCH 64
#define RELAY_WAIT_MS 1000

/**
 * relay_send() - Send a frame several times
 * @fd:		A blocking socket that keeps the bounds of messages
 * @frame:	The frame
 * @len:	Its length
 * @count:	How often, at most RELAY_BATCH
 *
 * Return: 0, -errno on failure
 */
static int relay_send(int fd, const uint8_t *frame, uint32_t len, uint32_t count)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)frame, .iov_len = len};
	struct mmsghdr msgs[RELAY_BATCH];
	uint32_t sent = 0;

	memset(msgs, 0, sizeof(msgs));
	for (uint32_t i = 0; i < count; i++) {
		msgs[i].msg_hdr.msg_iov = &iov;
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	while (sent < count) {
		int n = sendmmsg(fd, msgs + sent, count - sent, MSG_NOSIGNAL);

		if (n < 0)
			return -errno;
		sent += n;
	}
	return 0;
}

/**
 * relay_receive() - Take messages until there were enough; what they say is not looked at
 * @fd:		The socket
 * @count:	How many
 *
 * Return: 0, -ETIMEDOUT if none came for a second, -errno on failure
 */
static int relay_receive(int fd, uint32_t count)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	uint8_t head[64];

	while (count) {
		ssize_t n = recv(fd, head, sizeof(head), MSG_DONTWAIT);

		if (n >= 0) {
			count--;
		} else if (errno != EAGAIN) {
			return -errno;
		} else if (poll(&pfd, 1, RELAY_WAIT_MS) <= 0) {
			return -ETIMEDOUT;
		}
	}
	return 0;
}

/**
 * lab_relay() - Send a frame several times at one end and wait until it was as often at the other
 * @tx_fd:	The one end
 * @rx_fd:	The other
 * @frame:	The frame
 * @len:	Its length
 * @count:	How often, at most 64
 *
 * Return: 0, -EINVAL for more, -ETIMEDOUT if one was lost on the way, -errno on failure
 */
int lab_relay(int tx_fd, int rx_fd, const uint8_t *frame, uint32_t len, uint32_t count)
{
	int rc;

	if (count > RELAY_BATCH)
		return -EINVAL;
	rc = relay_send(tx_fd, frame, len, count);
	return rc ? rc : relay_receive(rx_fd, count);
}
