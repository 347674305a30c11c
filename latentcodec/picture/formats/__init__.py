"""What files of each format hold beside their pixels, read from the files themselves."""
