"""Alert rules for Prometheus, and a dashboard for Grafana."""
