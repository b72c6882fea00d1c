"""``tapbond demo``: a failover in a lab, put through all that it is made for, and measured."""
