"""The gateway half of edgeagg: polls a site's meters and delivers every reading."""
