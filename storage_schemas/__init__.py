"""What is stored: ids, conventions, Arrow schemas, Lance tables, the commit protocol and releases."""
