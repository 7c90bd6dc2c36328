"""What a process does beside requests: loops, in the server or in `crm-api worker`."""
