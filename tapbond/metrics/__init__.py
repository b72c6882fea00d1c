"""What Prometheus may know of a failover: the metrics, and the page that they are scraped from."""
