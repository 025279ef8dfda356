"""Tables of texts as streams: read row by row, written beside the answers, in constant memory."""
