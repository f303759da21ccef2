import type { ComponentChildren } from "preact";

const icon = (children: ComponentChildren, size = 18) => (
  <svg
    width={size}
    height={size}
    viewBox="0 0 24 24"
    fill="none"
    stroke="currentColor"
    stroke-width="2"
    stroke-linecap="round"
    stroke-linejoin="round"
    aria-hidden="true"
  >
    {children}
  </svg>
);

export const CheckIcon = () => icon(<path d="m5 12.5 4.5 4.5L19 7.5" stroke-width="2.6" />, 14);
export const PlusIcon = () => icon(<path d="M12 5v14M5 12h14" />);
export const MinusIcon = () => icon(<path d="M5 12h14" />);
export const CloseIcon = () => icon(<path d="m6 6 12 12M18 6 6 18" />);
export const SmallCloseIcon = () => icon(<path d="m7 7 10 10M17 7 7 17" />, 12);
export const ChevronIcon = () => icon(<path d="m6 9.5 6 6 6-6" />);
export const BackIcon = () => icon(<path d="m14.5 5.5-6.5 6.5 6.5 6.5" />);
export const TrashIcon = () =>
  icon(
    <path d="M4 7h16M10 11v6M14 11v6M6 7l1 12a1.5 1.5 0 0 0 1.5 1.4h7A1.5 1.5 0 0 0 17 19l1-12M9 7V4h6v3" />,
  );
export const NoteIcon = () => icon(<path d="M5 6h14M5 11h14M5 16h8" />, 14);
export const ForkIcon = () => icon(<path d="M4 5h3c6 0 5 7 11 7h2M4 19h3c6 0 5-7 11-7" />, 14);
export const ColumnsIcon = () => icon(<path d="M4 5h16v14H4zM12 5v14" />);
export const LogIcon = () => icon(<path d="M8 4v14M8 18l-3.5-3.5M16 20V6M16 6l3.5 3.5" />);
export const PauseIcon = () => icon(<path d="M9 5v14M15 5v14" />);
export const PlayIcon = () => icon(<path d="M8 5.5v13l10-6.5z" />);
export const SearchIcon = () => icon(<path d="M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14M20 20l-4-4" />);
export const CopyIcon = () => icon(<path d="M9 9h11v11H9zM5 15H4V4h11v1" />, 16);
