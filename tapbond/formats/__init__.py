"""A status in the formats that others read: each is a pure function of tapbond.state.Status."""
