import { Tasks } from "./tasks.js";

export default function Page() {
  return (
    <main>
      <h1>Rendered by the server</h1>
      <Tasks />
    </main>
  );
}
