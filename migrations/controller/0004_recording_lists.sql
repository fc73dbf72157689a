-- Every list of recordings is a piece of an index, in its order: the table keeps 30 days.

CREATE INDEX recording_of_device ON recording(device_id, recording_id);
CREATE INDEX recording_of_user ON recording(user_id, recording_id);
CREATE INDEX recording_not_over ON recording(recording_id) WHERE over_at IS NULL;
