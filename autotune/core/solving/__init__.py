"""The search for valid points: what constraints say of partial points, in which order to bind, growing, sampling."""
