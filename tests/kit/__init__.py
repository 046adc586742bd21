"""What tests share: real servers, real processes, deadlines.  Product code must not import it."""
