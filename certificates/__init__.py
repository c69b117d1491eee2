"""Which services need which certificates: from secrets, or by ACME."""
