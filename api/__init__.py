"""The control plane: REST API, live events and (later) the web console. Never holds card data."""
