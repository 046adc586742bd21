"""What tests share: real servers, real processes, deadlines.  Product code may not import it."""
