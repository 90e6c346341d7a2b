"""Random cases, the law they are held to, and how far rounding may go in them."""
