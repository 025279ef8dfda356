"""Config: read, check and record it; hide secrets; trust no recorded one."""
