-- What is not over, and what is not told: asked at each scrape, each heartbeat and each start,
-- of a table that keeps every video's row.

CREATE INDEX recording_not_over ON recording(recording_id)
    WHERE phase IN ('starting', 'recording', 'stopping');
CREATE INDEX recording_open ON recording(recording_id) WHERE told = 0;
