"""What is true of every resource; knows no domain."""
