from tests.support.running import one_thread

__all__ = ["one_thread"]
