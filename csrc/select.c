// SPDX-License-Identifier: Apache-2.0
/*
 * select.c - who sends and who receives, from a selection and what failed since.
 *
 * The control plane decides which slaves are ready and in which order; this only walks that order.
 * tests/unit/test_truth_table.py runs one table through this and through tapbond.policy.
 */
#include "tapbond.h"

/**
 * tb_select_sender() - the first ready slave that has not failed since it was called ready
 * @selection: in force
 * @suspended: bit mask of the ports whose last send failed
 *
 * net_failover_start_xmit() has the rule for two slaves: the primary if ready, else the standby,
 * else the frame is dropped.
 *
 * Return: the port, or -1 when nobody is left.
 */
int tb_select_sender(const struct tb_selection *selection, uint32_t suspended)
{
	for (uint32_t i = 0; i < selection->order_len && i < TB_PORTS_MAX; i++) {
		int port = selection->order[i];

		if (port < 0 || port >= TB_PORTS_MAX || selection->port[port].fd < 0)
			continue;
		if (!(suspended & (1u << port)))
			return port;
	}
	return -1;
}

/**
 * tb_select_receivers() - the slaves whose frames are delivered
 * @selection: in force
 * @sender: what tb_select_sender() said
 *
 * Return: a bit mask of ports.
 */
uint32_t tb_select_receivers(const struct tb_selection *selection, int sender)
{
	if (!selection->receive_sender)
		return selection->receive;
	return sender < 0 ? 0 : 1u << sender;
}
