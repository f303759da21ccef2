import { useEffect, useState } from "preact/hooks";

export interface Toast {
  readonly text: string;
  readonly action?: { readonly label: string; readonly run: () => void };
}

const SHOWN_MS = 7000;
let show: (toast: Toast | undefined) => void = () => {};

/** Says something in passing; the latest word replaces the one before. */
export const say = (text: string, action?: Toast["action"]): void =>
  show(action === undefined ? { text } : { text, action });

export function Toasts({ aboveLog }: { aboveLog: boolean }) {
  const [toast, setToast] = useState<Toast>();
  const [held, setHeld] = useState(false);
  useEffect(() => {
    show = setToast;
    return () => {
      show = () => {};
    };
  }, []);
  useEffect(() => {
    if (toast === undefined || held) return undefined;
    const timer = setTimeout(() => setToast(undefined), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [toast, held]);
  return (
    <div class={aboveLog ? "toasts above-log" : "toasts"} role="status">
      {toast && (
        // What is about to be used does not vanish under the pointer or the focus.
        <div
          class="toast"
          data-testid="toast"
          onPointerEnter={() => setHeld(true)}
          onPointerLeave={() => setHeld(false)}
          onFocusIn={() => setHeld(true)}
          onFocusOut={() => setHeld(false)}
        >
          <p>{toast.text}</p>
          {toast.action && (
            <button
              type="button"
              onClick={() => {
                toast.action?.run();
                setHeld(false);
                setToast(undefined);
              }}
            >
              {toast.action.label}
            </button>
          )}
        </div>
      )}
    </div>
  );
}
