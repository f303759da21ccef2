import { count } from "../shell/text.ts";
import { hue, type Listing, type Show, type Sort, type View } from "./view.ts";

const SORTS: readonly (readonly [Sort, string])[] = [
  ["newest", "Newest"],
  ["oldest", "Oldest"],
  ["votes", "Most votes"],
  ["title", "Title"],
];

interface Props {
  readonly view: View;
  readonly listing: Listing;
  readonly onView: (view: View) => void;
}

export function Filters({ view, listing, onView }: Props) {
  const shows: readonly (readonly [Show, string, number])[] = [
    ["all", "All", listing.open + listing.done],
    ["open", "Open", listing.open],
    ["done", "Done", listing.done],
  ];
  return (
    <div class="filters">
      <div class="segments" role="group" aria-label="Show">
        {shows.map(([show, label, number]) => (
          <button
            key={show}
            type="button"
            aria-pressed={view.show === show}
            data-testid={`show-${show}`}
            onClick={() => onView({ ...view, show })}
          >
            {label} <small>{count(number)}</small>
          </button>
        ))}
      </div>
      <select
        class="sort"
        aria-label="Order"
        data-testid="sort"
        value={view.sort}
        onChange={(event) => onView({ ...view, sort: event.currentTarget.value as Sort })}
      >
        {SORTS.map(([sort, label]) => (
          <option key={sort} value={sort}>
            {label}
          </option>
        ))}
      </select>
      {listing.tags.length > 0 && (
        <div class="tag-filter" role="group" aria-label="Only with tag">
          {listing.tags.map((tag) => (
            <button
              key={tag}
              type="button"
              class="chip"
              style={{ "--hue": String(hue(tag)) }}
              aria-pressed={view.tag === tag}
              onClick={() => onView({ ...view, tag: view.tag === tag ? undefined : tag })}
            >
              <bdi>{tag}</bdi>
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
