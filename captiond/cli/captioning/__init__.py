"""`captiond caption`: from files and folders to captions, in this process or by a service."""
