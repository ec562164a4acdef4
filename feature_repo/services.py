"""Feature services: what one kind of reader takes. Versioned by schema, never edited: a change of
a view's schema is a new service beside the old one, which releases still name."""

from feast import FeatureService
from views import user_history, user_recent

recommend_v1 = FeatureService(name="recommend_v1", features=[user_history, user_recent])
