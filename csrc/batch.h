/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - the buffers of one direction, and the message headers that point into them. */
#ifndef TAPBOND_BATCH_H
#define TAPBOND_BATCH_H

#include <linux/if_packet.h>
#include <stddef.h>
#include <sys/socket.h>

#include "frame.h"

#define BATCH_FRAMES 64
/*
 * A batch ends early at so many bytes: 64 super-frames would be 4 MiB between the copy in and the
 * copy out, more than the cache of one core holds.
 */
#define BATCH_BYTES (256 * 1024)

struct batch_control {
	_Alignas(struct cmsghdr) char space[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
};

struct batch {
	uint8_t *memory;
	unsigned int first;  /* frames before it are done with */
	unsigned int count;  /* frames filled */
	unsigned int expect; /* how many to ask for next, from the sizes seen last */
	struct frame frame[BATCH_FRAMES];
	struct iovec iov[BATCH_FRAMES];
	struct mmsghdr msg[BATCH_FRAMES];
	struct batch_control control[BATCH_FRAMES];
};

int batch_init(struct batch *batch);
void batch_free(struct batch *batch);
int batch_read_tap(struct batch *batch, int tap_fd);
int batch_receive(struct batch *batch, int fd);
int batch_send(struct batch *batch, int fd);

#endif
