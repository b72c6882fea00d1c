/* SPDX-License-Identifier: Apache-2.0 */
/* recent.h - the frames delivered during a drain, to know a second copy when it comes. */
#ifndef TAPBOND_RECENT_H
#define TAPBOND_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

#define RECENT_SETS 1024
#define RECENT_WAYS 4

struct recent_entry {
	uint64_t hash;
	uint32_t drain; /* which drain it belongs to; older ones are void */
	uint32_t port;
};

struct recent {
	uint32_t drain;
	uint32_t turn; /* which way is overwritten next */
	struct recent_entry entry[RECENT_SETS][RECENT_WAYS];
};

void recent_begin(struct recent *recent);
bool recent_is_copy(struct recent *recent, const struct frame *frame, uint32_t port);

#endif
