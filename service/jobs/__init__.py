"""From a request to a plan to a queued job; claims of workers, and the gate."""
